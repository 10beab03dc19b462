"""`mpo eval run`: a model's responses to a benchmark, through `inference`, and their scores.

RUN/run.json           settings of the run: model, benchmark, prompts, sampling
RUN/responses.jsonl    a line a response, with its problem; a killed run resumes it (see `inference.predict`)
RUN/scores.jsonl       scores of `scoring`, with scores.table.json beside them
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpo_lightning.data.annotations.mmpr import picture_path
from mpo_lightning.data.prompts import RESERVED, Prompt
from mpo_lightning.data.records import IMAGE_MARK, checked_question
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Row
from mpo_lightning.files.settings import recorded_difference


class ProblemPrompts:
    """The problems of a benchmark as prompts.

    Args:
        benchmark: the benchmark.
        problems: rows of the benchmark.
        images: folder that image paths are relative to.
        cot: whether to ask for reasoning first.
    """

    def __init__(self, benchmark: Benchmark[Any], problems: Sequence[Row], images: Path, cot: bool) -> None:
        self.benchmark, self.problems, self.images, self.cot = benchmark, problems, images, cot

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, number: int) -> Prompt:
        row = self.problems[number]
        names = row.get("image")
        names = [] if names in (None, "", []) else [names] if isinstance(names, str) else list(names)
        pictures = tuple(picture_path(self.images, str(name)).read_bytes() for name in names)
        question = self.benchmark.question(row, self.cot).replace(IMAGE_MARK, "")
        marks = "" if len(pictures) == 1 else f"{IMAGE_MARK}\n" * len(pictures)
        return Prompt(checked_question(marks + question, len(pictures)), pictures, None, self.fields(number))

    def fields(self, number: int) -> dict[str, Any]:
        """Returns a problem without the fields that the output adds."""
        return {name: value for name, value in self.problems[number].items() if name not in RESERVED}

    def where(self, number: int) -> str:
        return f"{self.benchmark.name} {self.benchmark.id_field} {self.problems[number].get(self.benchmark.id_field)}"


def fingerprint_of(problems: Sequence[Row], questions: Sequence[str]) -> str:
    """Returns a hash of the problems and their questions."""
    return hashlib.sha256(
        json.dumps([list(problems), list(questions)], sort_keys=True, ensure_ascii=False, default=str).encode(
            errors="backslashreplace"
        )
    ).hexdigest()


def begin(folder: Path, settings: dict[str, Any]) -> None:
    """Writes run.json, or compares the settings with an existing one.

    Raises:
        InputError: the folder holds a run with other settings.
    """
    if (different := recorded_difference(folder / "run.json", settings)) is not None:
        raise InputError(f"{folder}: holds a run with {different}; choose another --output, or delete the folder")
