"""Answer equality: rows of a ground truth and a prediction, to measure the checker on other projects' test suites."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import Kind, Question, check
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, TableRow, accuracies, verdict_score
from mpo_lightning.evals.files import read_rows


class EqualityRow(TypedDict, total=False):
    """A ground truth and a prediction; `equivalent` is another judgement of them."""

    id: int
    gold: Required[str]
    source: str
    options: dict[str, Any] | None
    equivalent: bool


def load(folder: Path) -> list[EqualityRow]:
    """Reads a file of rows with `gold` and `prediction`."""
    return [row | {"id": row.get("id", place)} for place, row in enumerate(read_rows(folder))]


def question(row: EqualityRow, cot: bool) -> str:
    """Raises InputError, since there is no question to ask."""
    raise InputError("equivalence compares existing answers; use `mpo eval score`")


def score(row: EqualityRow, response: str, mode: Mode) -> Score:
    """Scores whether the prediction equals the ground truth; a row's `options` may hold the precision."""
    options = row.get("options")
    precision = options.get("precision") if isinstance(options, dict) else None
    precision = precision if isinstance(precision, int) else None
    return verdict_score(check(response, Question(Kind.EXPRESSION, str(row["gold"]), (), precision)))


def table(rows: Sequence[EqualityRow], values: Any) -> Table:
    """Makes the table: the share of equal rows, by source, and the verdicts' agreement with the field `equivalent`."""
    found = accuracies(
        rows, values, "equal", {"source": lambda row: [str(row["source"]).split("/")[0]] if row.get("source") else []}
    )
    said = [
        float(bool(value[0]) == row["equivalent"])
        for row, value in zip(rows, values, strict=True)
        if isinstance(row.get("equivalent"), bool)
    ]
    if not said:
        return found
    agreement = TableRow("", "agreement", 100 * sum(said) / len(said), sum(said), total=len(said))
    return Table(found.headline, found.score, (found.rows[0], agreement, *found.rows[1:]))


BENCHMARK = Benchmark(
    name="equivalence",
    title="Answer equality",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(1, 1),
    where="your own file",
    needed=("gold",),
    response_fields=("prediction",),
    modes=("robust",),
)
