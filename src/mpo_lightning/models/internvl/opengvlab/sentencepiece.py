"""Reads a SentencePiece model file: the vocabulary in InternLM2's repositories.

The file is a protocol buffer. Only its pieces and the few settings that decide how text is split are read.

Source: sentencepiece's `sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.errors import InputError

SPACE = "\u2581"
"""The character for a space in a piece."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary.

    Attributes:
        text: text of the piece, with `SPACE` for spaces.
        score: merge priority; higher scores merge earlier.
        kind: NORMAL, BYTE or one of the others.
    """

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class PieceModel:
    """Content of a SentencePiece model file.

    Attributes:
        pieces: the pieces in the order of ids.
        prefix: whether a space is added in front of a text.
    """

    pieces: tuple[Piece, ...]
    prefix: bool


def read_piece_model(path: Path) -> PieceModel:
    """Reads a byte-pair model.

    Raises:
        InputError: the file cannot be read, is cut short or of another kind, or normalizes text as a plain tokenizer
            does not.
    """
    try:
        fields = list(_fields(path.read_bytes()))
        pieces = tuple(_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes))
        settings = {
            number: dict(_fields(value)) for number, value in fields if number in (2, 3) and isinstance(value, bytes)
        }
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, IndexError, struct.error):
        raise InputError(f"{path}: not a SentencePiece model, or cut short; copy it again") from None
    trainer, normalizer = settings.get(2, {}), settings.get(3, {})
    # Field 3 of the trainer is the model's type, 2 for byte pairs. In the normalizer, field 1 is a name, 3 the prefix
    # and 4 the removal of extra spaces; 3 and 4 default to on.
    if not pieces or trainer.get(3, 1) != 2:
        raise InputError(f"{path}: not a SentencePiece model of byte pairs, as InternLM2's is")
    if normalizer.get(4, 1) or normalizer.get(1, b"identity") not in (b"identity", b""):
        raise InputError(
            f"{path}: it normalizes text, which InternLM2's does not; this tokenizer cannot be carried over"
        )
    return PieceModel(pieces, bool(normalizer.get(3, 1)))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and value of each field of a protocol buffer message."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("varint too long")

    while place < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError("unknown wire type")
        size = {1: 8, 5: 4}.get(kind) or varint() if kind != 2 else varint()
        if place + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[place : place + size]
        place += size


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score, kind = fields.get(1, b""), fields.get(2, b"\0\0\0\0"), fields.get(3, NORMAL)
    assert isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)
    return Piece(text.decode("utf-8"), struct.unpack("<f", score)[0], kind)
