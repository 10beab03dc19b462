"""One preference pair as it lies on disk, and the rules its texts must keep.

A pair is a question (with a mark `<image>` where each picture goes), the chosen and the rejected answer, and the
pictures as encoded bytes. The rules are checked twice: when shards are made, and again when a record is read, because
shards may come from elsewhere.
"""

from dataclasses import dataclass, field
from typing import Any

from mpo_lightning.errors import BadRecord

IMAGE_MARK = "<image>"

MAX_TEXT_BYTES = 4 * 2**20
"""Largest annotation line or JSON member, about a million tokens; more is refused before it is parsed."""

MAX_PICTURE_BYTES = 128 * 2**20
"""Largest picture file."""

# Marks that give a prompt its structure. In a text they would forge a turn or a picture, and a model that learns to
# write them breaks its own chat.
RESERVED_MARKS = (
    "<IMG_CONTEXT>",
    "<img>",
    "</img>",
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
)


@dataclass(frozen=True)
class PreferenceRecord:
    """One pair with its pictures.

    Attributes:
        key: name of the sample in its shard, unique in a shard folder.
        question: the user's turn; holds as many `<image>` marks as there are pictures.
        chosen: the preferred answer.
        rejected: the other answer.
        images: encoded pictures (JPEG, PNG, ...) in the order of their marks; empty for a text-only pair.
        dataset: name of the data set in the MMPR meta file.
        source: `annotation.jsonl:LINE` the pair came from.
        max_tiles: the data set's own limit on tiles (`max_dynamic_patch`), or None for the run's.
        augment: whether tiles are JPEG-compressed at a random quality in training (`data_augment`).
        extra: the annotation line's other fields, kept as they were.
    """

    key: str
    question: str
    chosen: str
    rejected: str
    images: tuple[bytes, ...] = ()
    dataset: str = ""
    source: str = ""
    max_tiles: int | None = None
    augment: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def checked_question(question: object, num_images: int) -> str:
    """The question with its picture marks in place.

    A single picture without a mark gets one in front, as the reference does; any other mismatch is refused.

    Args:
        question: the annotation's value.
        num_images: how many pictures the pair has.

    Raises:
        BadRecord: not a text, empty, a reserved mark, or a count of marks that does not match the pictures.
    """
    text = _checked_text("question", question)
    marks = text.count(IMAGE_MARK)
    if num_images == 1 and marks == 0:
        return f"{IMAGE_MARK}\n{text}"
    if marks != num_images:
        raise BadRecord(
            f"the question has {marks} {IMAGE_MARK} marks but the pair has {num_images} pictures; give each picture "
            "one mark"
        )
    if not text.replace(IMAGE_MARK, "").strip():
        raise BadRecord("the question is empty apart from its picture marks")
    return text


def checked_answers(chosen: object, rejected: object) -> tuple[str, str]:
    """The two answers, unchanged.

    Raises:
        BadRecord: not a text, empty, a reserved mark, or both the same apart from white space at the ends.
    """
    chosen_text, rejected_text = _checked_text("chosen", chosen), _checked_text("rejected", rejected)
    if chosen_text.strip() == rejected_text.strip():
        raise BadRecord("chosen and rejected are the same answer; a pair needs two different ones")
    return chosen_text, rejected_text


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"'{name}' is {type(value).__name__}, not a text")
    if not value.strip():
        raise BadRecord(f"'{name}' is empty")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise BadRecord(f"'{name}' holds half of a surrogate pair, which is no character")
    for mark in RESERVED_MARKS:
        if mark in value:
            raise BadRecord(
                f"'{name}' contains the reserved mark {mark}, which would forge the structure of the prompt"
            )
    return value
