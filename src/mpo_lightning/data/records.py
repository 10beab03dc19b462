"""A preference pair as it is stored on disk, and the rules for its texts.

A pair is a question (with a mark `<image>` for each image), the chosen and the rejected response, and the images as
encoded bytes. The rules are checked when shards are made, and again when a record is read, because shards may come from
elsewhere.
"""

from dataclasses import dataclass, field
from typing import Any

from mpo_lightning.errors import BadRecord

IMAGE_MARK = "<image>"

MAX_TEXT_BYTES = 4 * 2**20
"""Largest annotation line or JSON member, about a million tokens; a larger one is refused before it is parsed."""

MAX_PICTURE_BYTES = 128 * 2**20
"""Largest image file."""

# Marks that structure a prompt. In a text they would forge a turn or an image, and a model that learns to write them
# breaks its own chat.
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
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
)


@dataclass(frozen=True)
class PreferenceRecord:
    """One pair with its images.

    Attributes:
        key: name of the sample in its shard, unique in a shard folder.
        question: the user's turn, with one `<image>` mark per image.
        chosen: the preferred response.
        rejected: the other response.
        images: encoded images (JPEG, PNG, ...) in the order of their marks; empty for a text-only pair.
        dataset: name of the data set in the MMPR meta file.
        source: `annotation.jsonl:LINE` that the pair came from.
        max_tiles: the data set's own limit on tiles (`max_dynamic_patch`); None means the run's.
        augment: whether tiles are JPEG-compressed at a random quality in training (`data_augment`).
        system: system message of this pair alone (`system_prompt`); None takes the run's.
        extra: other fields of the annotation line, unchanged.
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
    system: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def checked_question(question: object, num_images: int) -> str:
    """Checks a question and returns it with its image marks.

    A single image without a mark gets one in front, as in the reference. Any other mismatch is refused.

    Args:
        question: the annotation's value.
        num_images: number of images of the pair.

    Raises:
        BadRecord: not a string, empty, a reserved mark, or a number of marks that does not match the images.
    """
    text = _checked_text("question", question)
    marks = text.count(IMAGE_MARK)
    if num_images == 1 and marks == 0:
        return f"{IMAGE_MARK}\n{text}"
    if marks != num_images:
        raise BadRecord(
            f"the question has {marks} {IMAGE_MARK} marks but the pair has {num_images} images; give each image "
            "one mark"
        )
    if not text.replace(IMAGE_MARK, "").strip():
        raise BadRecord("the question is empty apart from its image marks")
    return text


def checked_answers(chosen: object, rejected: object) -> tuple[str, str]:
    """Checks the two responses and returns them unchanged.

    Raises:
        BadRecord: not a string, empty, a reserved mark, or both the same apart from white space at the ends.
    """
    chosen_text, rejected_text = _checked_text("chosen", chosen), _checked_text("rejected", rejected)
    if chosen_text.strip() == rejected_text.strip():
        raise BadRecord("chosen and rejected are the same response; a pair needs two different ones")
    return chosen_text, rejected_text


def checked_system(system: object) -> str | None:
    """Checks a pair's own system message; absent or empty, it is None.

    Raises:
        BadRecord: not a string, or it contains a reserved mark.
    """
    return None if system in (None, "") else _checked_text("system_prompt", system)


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRecord(f"'{name}' is {type(value).__name__}, not a string")
    if not value.strip():
        raise BadRecord(f"'{name}' is empty")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise BadRecord(f"'{name}' contains half of a surrogate pair, which is not a character")
    for mark in RESERVED_MARKS:
        if mark in value:
            raise BadRecord(
                f"'{name}' contains the reserved mark {mark}, which would forge the structure of the prompt"
            )
    return value
