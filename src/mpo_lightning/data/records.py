"""A question with its preference pairs as it is stored on disk, a single pair, and the rules for their texts.

A pair is a question (with a mark `<image>` for each image), the chosen and the rejected response, and the images as
encoded bytes. Pairs of one question share all but their answers, so a sample on disk is a question with each answer
once, and a pair is two of them. The rules are checked when shards are made, and again when a sample is read, because
shards may come from elsewhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mpo_lightning.errors import BadRecord

IMAGE_MARK = "<image>"

HALF_CHARACTER = re.compile("[\ud800-\udfff]")

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


@dataclass(frozen=True)
class AnswerPair:
    """A pair of a question: the numbers of its two answers, and what belongs to the pair alone.

    Attributes: see `PreferenceRecord`.
    """

    key: str
    chosen: int
    rejected: int
    source: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuestionRecord:
    """A question with its images, its different answers, and its pairs of them.

    Attributes:
        key: name of the sample in its shard, unique in a shard folder.
        answers: the different responses.
        pairs: the pairs, at least one.
        question, images, dataset, max_tiles, augment, system: as in `PreferenceRecord`.
    """

    key: str
    question: str
    answers: tuple[str, ...]
    pairs: tuple[AnswerPair, ...]
    images: tuple[bytes, ...] = ()
    dataset: str = ""
    max_tiles: int | None = None
    augment: bool = False
    system: str | None = None

    def record(self, pair: AnswerPair) -> PreferenceRecord:
        """One of the pairs, with the question and the images."""
        return PreferenceRecord(
            key=pair.key,
            question=self.question,
            chosen=self.answers[pair.chosen],
            rejected=self.answers[pair.rejected],
            images=self.images,
            dataset=self.dataset,
            source=pair.source,
            max_tiles=self.max_tiles,
            augment=self.augment,
            system=self.system,
            extra=pair.extra,
        )


def question_of(records: Sequence[PreferenceRecord]) -> QuestionRecord:
    """Joins pairs that have the same question, images and settings; the first one's key names the sample."""
    first = records[0]
    numbers: dict[str, int] = {}
    pairs = [
        AnswerPair(
            record.key,
            numbers.setdefault(record.chosen, len(numbers)),
            numbers.setdefault(record.rejected, len(numbers)),
            record.source,
            record.extra,
        )
        for record in records
    ]
    return QuestionRecord(
        key=first.key,
        question=first.question,
        answers=tuple(numbers),
        pairs=tuple(pairs),
        images=first.images,
        dataset=first.dataset,
        max_tiles=first.max_tiles,
        augment=first.augment,
        system=first.system,
    )


def checked_question(question: object, num_images: int) -> str:
    """Checks a question and returns it with its image marks.

    A single image without a mark gets one in front, as in the reference. Any other mismatch is refused.

    Args:
        question: the annotation's value.
        num_images: number of images of the pair.

    Raises:
        BadRecord: not a string, empty, a reserved mark, or a number of marks that does not match the images.
    """
    text = checked_text("question", question)
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
    chosen_text, rejected_text = checked_text("chosen", chosen), checked_text("rejected", rejected)
    if chosen_text.strip() == rejected_text.strip():
        raise BadRecord("chosen and rejected are the same response; a pair needs two different ones")
    return chosen_text, rejected_text


def checked_system(system: object) -> str | None:
    """Checks a pair's own system message; absent or empty, it is None.

    Raises:
        BadRecord: not a string, or it contains a reserved mark.
    """
    return None if system in (None, "") else checked_text("system_prompt", system)


def checked_text(name: str, value: object) -> str:
    """Checks a text and returns it unchanged.

    Raises:
        BadRecord: not a string, empty, or it contains half of a surrogate pair or a reserved mark.
    """
    if not isinstance(value, str):
        raise BadRecord(f"'{name}' is {type(value).__name__}, not a string")
    if not value.strip():
        raise BadRecord(f"'{name}' is empty")
    if HALF_CHARACTER.search(value):
        raise BadRecord(f"'{name}' contains half of a surrogate pair, which is not a character")
    for mark in RESERVED_MARKS:
        if mark in value:
            raise BadRecord(
                f"'{name}' contains the reserved mark {mark}, which would forge the structure of the prompt"
            )
    return value
