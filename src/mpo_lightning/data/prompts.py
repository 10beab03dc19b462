"""Prompts to answer: from a questions file, or from the questions of shards.

A questions file has one JSON object per line: `question` with a mark `<image>` for each image, and `image` (a path, a
list of paths, or absent). All other fields (`id`, `answer`, ...) are copied to the output.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpo_lightning.data.annotations.mmpr import picture_path, read_lines, refuse_long
from mpo_lightning.data.records import PreferenceRecord, checked_question, checked_system
from mpo_lightning.data.shards.index import ShardIndex
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.strict_json import parse_json

HINT = re.compile(
    r"\s*(?:Answer the question (?:using|with) a single word or phrase\.?|Answer with the option'?s? letter from the "
    r"given choices directly\.?|"
    r"Please answer (?:directly|the question directly)[^\n.]*\.?"
    r"|请直接回答(?:问题)?[。.]?|请用单个词或短语回答[^\n]*)\s*$",
    re.IGNORECASE,
)
"""A request for a short answer. Data sets for direct answers append it, and it contradicts a request for reasoning."""


@dataclass(frozen=True)
class Prompt:
    """A question with its images.

    Attributes:
        question: question with one `<image>` mark per image.
        images: encoded images in the order of their marks.
        max_tiles: the data set's own limit on tiles; None means the run's.
        fields: fields copied to the output.
        begun: first part of the answer, which the model continues.
        system: system message of this prompt alone (`system_prompt`); None takes the run's.
    """

    question: str
    images: tuple[bytes, ...] = ()
    max_tiles: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    begun: str = ""
    system: str | None = None


class Prompts(Protocol):
    """Prompts by number.

    Reading a prompt that cannot be used raises BadRecord. Its `fields`, which are copied to the output, can still be
    read.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Prompt: ...

    def where(self, number: int) -> str: ...

    def fields(self, number: int) -> dict[str, Any]: ...


class Repeated:
    """Repeats every prompt several times in a row, for several answers; `sample` numbers them.

    Args:
        prompts: prompts to repeat.
        samples: number of repeats.
    """

    def __init__(self, prompts: Prompts, samples: int) -> None:
        self.prompts, self.samples = prompts, samples

    def __len__(self) -> int:
        return len(self.prompts) * self.samples

    def __getitem__(self, number: int) -> Prompt:
        prompt = self.prompts[number // self.samples]
        return replace(prompt, fields=prompt.fields | {"sample": number % self.samples})

    def fields(self, number: int) -> dict[str, Any]:
        return self.prompts.fields(number // self.samples) | {"sample": number % self.samples}

    def where(self, number: int) -> str:
        return self.prompts.where(number // self.samples)


def without_hint(question: str) -> str:
    """A question without the request for a short answer at its end."""
    return HINT.sub("", question)


RESERVED = ("response", "response_tokens", "finished", "error", "where", "reasoning")
"""Fields that the output adds."""


class QuestionFile:
    """The questions of a file; only the places of its lines are kept in memory.

    Args:
        path: path of the file.
        images: folder that image paths are relative to and may not leave; None means the file's own.

    Raises:
        InputError: the file cannot be read, or has no line.
    """

    def __init__(self, path: Path, images: Path | None = None) -> None:
        self.path, self.root = path, images or path.parent
        try:
            self.places = [(number, offset, len(line)) for number, offset, line in read_lines(path)]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        if not self.places:
            raise InputError(f"{path}: there is no question in it")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Prompt:
        line = self._line(number)
        refuse_long(line, "the line")
        try:
            fields = parse_json(line.decode("utf-8-sig"))
        except ValueError as error:
            raise BadRecord(f"the line is not JSON ({error})") from None
        if not isinstance(fields, dict) or "question" not in fields:
            raise BadRecord("the line is not an object with a 'question'")
        for name in RESERVED:
            if name in fields:
                raise BadRecord(f"the field '{name}' is reserved for the output; rename it")
        names = fields.get("image")
        names = [] if names in (None, "", []) else [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise BadRecord(f"'image' is {names!r}; it must be a path, a list of paths, or absent")
        images = tuple(picture_path(self.root, name).read_bytes() for name in names)
        system = checked_system(fields.get("system_prompt"))
        return Prompt(checked_question(fields["question"], len(images)), images, None, fields, system=system)

    def fields(self, number: int) -> dict[str, Any]:
        """The fields of a line as far as it can be read; for prompts that cannot be used."""
        try:
            fields = parse_json(self._line(number).decode("utf-8-sig"))
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    def _line(self, number: int) -> bytes:
        _, offset, size = self.places[number]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def where(self, number: int) -> str:
        return f"{self.path}:{self.places[number][0]}"


class ShardQuestions:
    """The questions of shards, each once, by its first pair.

    Args:
        index: index of the shards.
    """

    def __init__(self, index: ShardIndex) -> None:
        self.reader = ShardReader(index)
        question_of = np.asarray(index.records["first_member"]).astype(np.int64)
        self.records = np.flatnonzero(np.diff(question_of, prepend=-1))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Prompt:
        record = self.reader.read(int(self.records[number]))
        return Prompt(record.question, record.images, record.max_tiles, self._fields(record), system=record.system)

    def fields(self, number: int) -> dict[str, Any]:
        """The record's key and texts; only its key if it cannot be read."""
        try:
            return self._fields(self.reader.read(int(self.records[number])))
        except BadRecord:
            return {"id": self.reader.index.key(int(self.records[number]))}

    def _fields(self, record: PreferenceRecord) -> dict[str, Any]:
        return {"id": record.key, "question": record.question, "chosen": record.chosen, "rejected": record.rejected}

    def where(self, number: int) -> str:
        return self.reader.index.where(int(self.records[number]))
