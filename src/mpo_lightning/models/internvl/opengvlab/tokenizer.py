"""The tokenizer of an original folder, without its remote code and without the SentencePiece library.

Folders that hold a tokenizer.json, or Qwen2's vocab.json and merges.txt, are opened by transformers. The others hold a
SentencePiece model (InternLM2 under a class of its own, Phi-3 and Yi under LlamaTokenizer); here the same ids come from
a fast tokenizer built from its pieces:

- A byte-pair model merges the pair whose joined piece has the highest score, so every way to cut a piece in two is a
merge, ordered by the
  score of the whole.
- Pieces that the folder renames (`<|im_start|>` lies where InternLM2's model says [UNUSED_TOKEN_146]) keep their ids
under the new name.
- The space in front of a text: as the model says, at the start of every stretch between special tokens; with `legacy:
false`, which Llama's
  class knows, at the start of the text alone.

Source: InternVL's `tokenization_internlm2.py`; transformers 4.37 `tokenization_llama.py`.
"""

import json
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.opengvlab.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    PieceModel,
    read_piece_model,
)

Prefix = Literal["none", "each", "first"]
"""Where a space is put: nowhere, in front of every stretch between special tokens, or in front of the text."""


def original_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an original folder as a fast one.

    Raises:
        InputError: files are missing, damaged, or cannot be understood.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError(f"{folder}: no tokenizer here (tokenizer.model, tokenizer.json or vocab.json); copy its files")
    if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
        return _from_pieces(folder)
    # A folder whose class is remote code may all the same hold a complete tokenizer.json.
    kind: Any = PreTrainedTokenizerFast if "auto_map" in _settings(folder) else AutoTokenizer
    options = {"config": PretrainedConfig()} if kind is AutoTokenizer else {}
    try:
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True, **options
        )
        return tokenizer
    except Exception as error:  # noqa: BLE001 (the tokenizers library raises no narrower one for a damaged file)
        raise InputError(
            f"{folder}: the tokenizer cannot be loaded ({' '.join(str(error).split())[:200]}); copy its files again"
        ) from None


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read, it is missing; copy the tokenizer's files") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy it again") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: cannot be understood, it holds no settings; copy it again")
    return settings


def _from_pieces(folder: Path) -> PreTrainedTokenizerBase:
    settings, path = _settings(folder), folder / "tokenizer_config.json"
    model = read_piece_model(folder / "tokenizer.model")
    try:
        added = {int(number): _added_token(entry) for number, entry in settings["added_tokens_decoder"].items()}
        named = {
            role: _content(settings[role])
            for role in ("bos_token", "eos_token", "pad_token", "unk_token")
            if settings.get(role)
        }
        special = [_content(token) for token in settings.get("additional_special_tokens") or []]
        length = int(settings.get("model_max_length", 10**30))
        start = named.get("bos_token") if settings.get("add_bos_token", True) else None
        end = named.get("eos_token") if settings.get("add_eos_token", False) else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be understood ({type(error).__name__}: {error})") from None
    prefix: Prefix = "each" if model.prefix else "none"
    if settings.get("tokenizer_class") != "InternLM2Tokenizer" and settings.get("legacy") is False:
        prefix = "first" if settings.get("add_prefix_space", True) else "none"
    tokenizer = build_tokenizer(model, added, prefix, start, end, path)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=length,
        additional_special_tokens=special,
        **named,
    )


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _added_token(entry: dict[str, Any]) -> AddedToken:
    flags = {
        flag: bool(entry.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")
    }
    return AddedToken(str(entry["content"]), **flags)


def build_tokenizer(
    model: PieceModel, added: dict[int, AddedToken], prefix: Prefix, start: str | None, end: str | None, where: Path
) -> Tokenizer:
    """A fast tokenizer that gives a SentencePiece byte-pair model's ids.

    Args:
        model: the pieces.
        added: tokens by id, which rename pieces or follow behind the last.
        prefix: where a space is put.
        start: token in front of every text.
        end: token behind every text.
        where: the file that names the added tokens, for messages.

    Raises:
        InputError: an added token's id is neither a piece's nor the next behind them, two tokens have one name, or
            start or end is none.
    """
    vocabulary = _vocabulary(model, added, where)
    for token in (start, end):
        if token is not None and token not in vocabulary:
            raise InputError(
                f"{where}: the token {token!r} is to be put around every text, but it is not in the vocabulary"
            )
    mergeable = {
        piece.text: piece.score
        for number, piece in enumerate(model.pieces)
        if piece.kind == NORMAL and number not in added
    }
    unknown = next((number for number, piece in enumerate(model.pieces) if piece.kind == UNKNOWN), None)
    names = list(vocabulary)
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=_merges(mergeable),
            unk_token=None if unknown is None else names[unknown],
            fuse_unk=True,
            byte_fallback=any(piece.kind == BYTE for piece in model.pieces),
        )
    )
    marked = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), marked]) if prefix == "each" else marked
    if prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    if prefix != "none":
        tokenizer.decoder = decoders.Sequence([tokenizer.decoder, decoders.Strip(" ", 1, 0)])
    pieces = [
        AddedToken(piece.text, normalized=False, special=piece.kind != USER_DEFINED)
        for number, piece in enumerate(model.pieces)
        if piece.kind in (CONTROL, UNKNOWN, USER_DEFINED) and number not in added
    ]
    tokenizer.add_tokens([*pieces, *(added[number] for number in sorted(added))])
    around = [(token, vocabulary[token]) for token in (start, end) if token is not None]
    if around:
        first, last = f"{start} " * (start is not None), f" {end}" * (end is not None)
        tokenizer.post_processor = TemplateProcessing(
            single=f"{first}$A{last}", pair=f"{first}$A{last} {first}$B{last}", special_tokens=sorted(set(around))
        )
    return tokenizer


def _vocabulary(model: PieceModel, added: dict[int, AddedToken], where: Path) -> dict[str, int]:
    names = [piece.text for piece in model.pieces]
    for number in sorted(added):
        if number > len(names):
            raise InputError(
                f"{where}: token {added[number].content!r} has id {number}, but there are {len(names)} tokens before it"
            )
        names[number : number + 1] = [added[number].content]
    vocabulary = {name: number for number, name in enumerate(names)}
    if len(vocabulary) < len(names):
        twice = next(name for number, name in enumerate(names) if vocabulary[name] != number)
        raise InputError(f"{where}: the token {twice!r} would have two ids")
    return vocabulary


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that joins to a piece, the joined piece's highest score first."""
    merges = [
        (-score, -scores[text[:cut]], text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    return [(left, right) for *_, left, right in sorted(merges)]
