"""Decides which questions go into which tar: by split, in the order of their first pairs, up to a size."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.data.annotations.mmpr import AnnotationSet
from mpo_lightning.data.annotations.split import validation_pairs
from mpo_lightning.data.annotations.survey import QuestionPlace, Survey, question_places
from mpo_lightning.errors import InputError

SPLITS = ("train", "validation")
BLOCK = 10_240
"""A tar ends with zeros up to a multiple of this size in bytes."""


@dataclass(frozen=True)
class ShardJob:
    """One tar to write."""

    path: Path
    work: Path
    sets: list[AnnotationSet]
    names: list[str]
    questions: list[QuestionPlace]

    @property
    def pairs(self) -> int:
        return sum(len(question.pairs) for question in self.questions)

    @property
    def bytes(self) -> int:
        """Size of the tar, at most."""
        return BLOCK + sum(question.bytes for question in self.questions)


def plan_shards(found: Survey, output: Path, validation: float, seed: int, shard_bytes: int) -> list[ShardJob]:
    """Assigns questions to tars, in the order of their first pairs. A tar is closed when it would grow past
    `shard_bytes`.

    Raises:
        InputError: the validation split would be empty though a fraction was asked for.
    """
    if not found.pairs:
        return []
    held_out = validation_pairs(found.groups(), validation, seed) if validation > 0 else set()
    if validation > 0 and not held_out:
        raise InputError(
            f"a validation fraction of {validation} holds out no pair: the smallest group that shares questions or "
            "images is larger; ask for a larger fraction or use a separate meta file for validation"
        )
    if len(held_out) == len(found.pairs):
        raise InputError(f"a validation fraction of {validation} leaves no pair for training; ask for a smaller one")
    names = unique_names([entry.name for entry in found.sets])
    jobs: list[ShardJob] = []
    for split in SPLITS:
        chosen = [pair for number, pair in enumerate(found.pairs) if (number in held_out) == (split == "validation")]
        for number, questions in enumerate(_cut_by_size(question_places(chosen), shard_bytes)):
            path = output / split / f"mmpr-{number:06d}.tar"
            jobs.append(ShardJob(path, output / ".work", found.sets, names, questions=questions))
    return jobs


def unique_names(names: list[str]) -> list[str]:
    """Unique names that can be part of a sample's key (no dot, slash or space)."""
    safe: list[str] = []
    for name in names:
        base = re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "set"
        candidate, number = base, 2
        while candidate in safe:
            candidate, number = f"{base}-{number}", number + 1
        safe.append(candidate)
    return safe


def _cut_by_size(questions: list[QuestionPlace], shard_bytes: int) -> Iterator[list[QuestionPlace]]:
    current: list[QuestionPlace] = []
    filled = 0
    for question in questions:
        if current and filled + question.bytes > shard_bytes - BLOCK:
            yield current
            current, filled = [], 0
        current.append(question)
        filled += question.bytes
    if current:
        yield current
