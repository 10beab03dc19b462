"""The tokenizer of an original folder, without its remote code.

Llama, Qwen2 and Phi-3 folders hold what transformers opens by itself. InternLM2 folders hold a SentencePiece model and a class of their own;
here the same ids come from a fast tokenizer built from the pieces. A byte-pair model merges the pair whose joined piece has the highest
score, so every way to cut a piece in two is a merge, ordered by the score of the whole. Pieces that the folder renames (`<|im_start|>` lies
where the model says [UNUSED_TOKEN_146]) keep their ids under the new name.

Source: InternVL's `tokenization_internlm2.py`, for what surrounds the model.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mpo_lightning.errors import InputError
from mpo_lightning.models.opengvlab.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    PieceModel,
    read_piece_model,
)


def original_tokenizer(folder: Path, architecture: str) -> PreTrainedTokenizerBase:
    """The tokenizer of an original folder as a fast one.

    Args:
        folder: has the tokenizer's files.
        architecture: of its language model.

    Raises:
        InputError: files are missing or cannot be understood.
    """
    if architecture == "InternLM2ForCausalLM" and not (folder / "tokenizer.json").is_file():
        return _internlm2(folder)
    try:
        # Without the folder's own config, whose model type means nothing to transformers.
        return AutoTokenizer.from_pretrained(str(folder), config=PretrainedConfig(), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise InputError(f"{folder}: the tokenizer cannot be loaded ({str(error).strip().splitlines()[0]})") from None


def _internlm2(folder: Path) -> PreTrainedTokenizerBase:
    path = folder / "tokenizer_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        added = {int(number): _added_token(entry) for number, entry in settings["added_tokens_decoder"].items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); the folder needs it beside tokenizer.model") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be understood ({type(error).__name__}: {error})") from None
    tokenizer = build_tokenizer(read_piece_model(folder / "tokenizer.model"), added, path)
    named = {role: _content(settings[role]) for role in ("bos_token", "eos_token", "pad_token", "unk_token") if settings.get(role)}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=settings.get("model_max_length", int(1e30)),
        additional_special_tokens=[_content(token) for token in settings.get("additional_special_tokens", [])],
        **named,
    )


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _added_token(entry: dict[str, Any]) -> AddedToken:
    flags = {flag: bool(entry.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return AddedToken(str(entry["content"]), **flags)


def build_tokenizer(model: PieceModel, added: dict[int, AddedToken], where: Path) -> Tokenizer:
    """A fast tokenizer that gives a SentencePiece byte-pair model's ids, with `<s>` in front.

    Args:
        model: the pieces.
        added: tokens by id, which rename pieces or follow behind the last.
        where: the file that names them, for messages.

    Raises:
        InputError: an added token's id is neither a piece's nor the next behind them.
    """
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
    mergeable = {
        piece.text: piece.score for number, piece in enumerate(model.pieces) if piece.kind == NORMAL and number not in added
    }
    unknown = next(names[number] for number, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary, merges=_merges(mergeable), unk_token=unknown, fuse_unk=True,
            byte_fallback=any(piece.kind == BYTE for piece in model.pieces),
        )
    )  # fmt: skip
    marked = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), marked]) if model.prefix else marked
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    kinds = {CONTROL, UNKNOWN, USER_DEFINED}
    pieces = [
        AddedToken(piece.text, normalized=False, special=piece.kind != USER_DEFINED)
        for number, piece in enumerate(model.pieces)
        if piece.kind in kinds and number not in added
    ]
    tokenizer.add_tokens([*pieces, *(added[number] for number in sorted(added))])
    start = next((names[number] for number, piece in enumerate(model.pieces) if piece.text == "<s>"), None)
    if start is not None:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, vocabulary[start])]
        )
    return tokenizer


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that joins to a piece, the joined piece's highest score first."""
    merges = [
        (-score, -scores[text[:cut]], text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    return [(left, right) for *_, left, right in sorted(merges)]
