"""Answer equality alone: rows of a gold answer and a prediction, for measuring the checker on pairs of other people's test suites."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpo_lightning.answers import Kind, Question, check
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Mode, Row, Score, Table, accuracies, verdict_score
from mpo_lightning.evals.files import read_rows


def load(folder: Path) -> list[Row]:
    """A file of rows with gold and prediction."""
    return [{"id": place} | row for place, row in enumerate(read_rows(folder))]


def question(row: Row, cot: bool) -> str:
    """There is nothing to ask."""
    raise InputError("equivalence compares answers that are there; use `mpo eval score`")


def score(row: Row, response: str, mode: Mode) -> Score:
    """Whether the prediction is the gold answer; a row's `options` may hold the precision of its comparison."""
    options = row.get("options")
    precision = options.get("precision") if isinstance(options, dict) else None
    precision = precision if isinstance(precision, int) else None
    return verdict_score(check(response, Question(Kind.EXPRESSION, str(row["gold"]), (), precision)))


def table(rows: Sequence[Row], values: Any) -> Table:
    """The share that is equal, by source."""
    return accuracies(
        rows, values, "equal", {"source": lambda row: [str(row["source"]).split("/")[0]] if row.get("source") else []}
    )


EQUIVALENCE = Benchmark("equivalence", "Answer equality", "id", load, question, score, table, (1, 1), "your own file", ("gold",))
