"""Loads the tokenizer of an original folder without its remote code and without the SentencePiece library.

Own reader, because the library needs a compiled wheel for a file of a few fields, and does not give a fast tokenizer.

transformers opens folders with a tokenizer.json, or with Qwen2's vocab.json and merges.txt. The other folders have a
SentencePiece model (InternLM2 under a class of its own, Phi-3 and Yi under LlamaTokenizer). For them a fast tokenizer
with the same ids is built from the pieces:

- A byte-pair model merges the pair whose joined piece has the highest score. Every way to split a piece in two is
  therefore a merge, ordered by the score of the joined piece.
- Pieces that the folder renames keep their ids under the new name (`<|im_start|>` replaces InternLM2's
  [UNUSED_TOKEN_146]).
- A space is added as the model says, at the start of every stretch between special tokens. With `legacy: false`, an
  option of Llama's class, it is added at the start of the text only.

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
"""Where a space is added: nowhere, before every stretch between special tokens, or before the text."""


def original_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of an original folder as a fast one.

    Raises:
        InputError: files are missing or damaged, or cannot be parsed.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise InputError(f"{folder}: no tokenizer here (tokenizer.model, tokenizer.json or vocab.json); copy its files")
    if (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file():
        return _from_pieces(folder)
    # A folder whose tokenizer class is remote code may still have a complete tokenizer.json.
    kind: Any = PreTrainedTokenizerFast if "auto_map" in _settings(folder) else AutoTokenizer
    options = {"config": PretrainedConfig(), **llama_options(_settings(folder))} if kind is AutoTokenizer else {}
    try:
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True, **options
        )
        return tokenizer
    except Exception as error:  # noqa: BLE001 (the tokenizers library raises no narrower one for a damaged file)
        raise InputError(
            f"{folder}: the tokenizer cannot be loaded ({' '.join(str(error).split())[:200]}); copy its files again"
        ) from None


def llama_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the options for reading InternLM2's tokenizer from the -hf layout, given its tokenizer_config.json.

    transformers 5 would add a space in front of a text, which this tokenizer does not have.
    """
    llama = settings.get("tokenizer_class") in ("LlamaTokenizer", "LlamaTokenizerFast")
    return {"add_prefix_space": False} if llama and settings.get("add_prefix_space") is None else {}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: cannot be read, the file is missing; copy the tokenizer's files") from None
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
    tokenizer = build_tokenizer(model, added, prefix=prefix, start=start, end=end, where=path)
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
    """Builds a fast tokenizer that gives the ids of a SentencePiece byte-pair model.

    Args:
        model: the pieces.
        added: added tokens by id, which rename pieces or follow the last one.
        prefix: where a space is added.
        start: token before every text, or None.
        end: token after every text, or None.
        where: file that names the added tokens, for messages.

    Raises:
        InputError: an added token's id is neither a piece's nor the next free one, two tokens have the same name, or
            start or end is not in the vocabulary.
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
    """Returns every pair of pieces that joins to a piece, by descending score of the joined piece."""
    merges = [
        (-score, -scores[text[:cut]], text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    return [(left, right) for *_, left, right in sorted(merges)]
