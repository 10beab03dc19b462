"""A user's own problems: questions with answers, in the form that `mpo prefs` takes.

A row has `question` and `answer`, and may have `image` (a path or a list), `choices`, `precision`, `category`, `id`.
The kind of answer is read from the row by the same code as for pairs, so that training data and held-out problems are
checked alike. There is no official rule.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import check
from mpo_lightning.answers.question import question_of
from mpo_lightning.data.prompts import without_hint
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, accuracies, verdict_score
from mpo_lightning.evals.benchmarks.prompts import LETTER, WORD, lettered, with_reasoning
from mpo_lightning.evals.files import find_file, read_rows

WHERE = "your own: JSON lines with image, question and answer, as `mpo prefs` takes them"


class QuestionRow(TypedDict, total=False):
    """A question with its answer."""

    id: str | int
    question: Required[str]
    answer: Required[Any]
    choices: list[str] | None
    precision: int | None
    category: str


def load(folder: Path) -> list[QuestionRow]:
    """Reads the rows of problems.jsonl; rows without an id get their number."""
    rows = read_rows(find_file(folder, ("problems.jsonl", "questions.jsonl", "test.jsonl"), WHERE))
    return [row | {"id": row.get("id", number)} for number, row in enumerate(rows)]


def question(row: QuestionRow, cot: bool) -> str:
    """Returns the prompt with the options: for a short answer, or (`cot`) for reasoning first."""
    asked = str(row["question"]).replace(IMAGE_MARK, "").strip()
    choices = row.get("choices")
    bare = without_hint(asked)
    if isinstance(choices, list) and choices and not all(str(choice) in bare for choice in choices):
        bare = f"{bare}\n{lettered([str(choice) for choice in choices])}"
    if cot:
        return with_reasoning(bare)
    return asked if asked != without_hint(asked) else f"{bare}\n{LETTER if question_of(row).choices else WORD}"


def score(row: QuestionRow, response: str, mode: Mode) -> Score:
    """Scores one response.

    Raises:
        InputError: the mode is official.
    """
    if mode == "official":
        raise InputError("there is no official rule for your own questions; leave out --mode official")
    return verdict_score(check(response, question_of(row)))


def table(rows: Sequence[QuestionRow], values: Any) -> Table:
    """Makes the table: accuracy of all, and by category."""
    return accuracies(
        rows, values, "accuracy", {"category": lambda row: [str(row["category"])] if row.get("category") else []}
    )


BENCHMARK = Benchmark(
    name="questions",
    title="Own questions",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(100, 4096),
    where=WHERE,
    needed=("question", "answer"),
    modes=("robust",),
)
