"""Defines a benchmark: how its rows are named, asked, scored and summed up.

A row is a dict with the fields of the benchmark's own files. The benchmark's module declares those that it reads as a
TypedDict. A row of a response may hold its problem or only its id. Each row is scored alone. Tables need only rows and
their values, so that values can be gathered from many processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from mpo_lightning.answers import Verdict

Row = dict[str, Any]
"""A row of any benchmark."""

RowOf = TypeVar("RowOf", bound=Mapping[str, Any])
"""The type of a benchmark's rows."""

Mode = Literal["official", "robust"]


@dataclass(frozen=True)
class Score:
    """The score of one response.

    Attributes:
        verdict: extraction, prediction, decision and rule.
        values: numbers that the table is computed from: 1.0 (right) or 0.0 (wrong), a judge's points, or others that
            the benchmark defines.
    """

    verdict: Verdict
    values: tuple[float, ...]


@dataclass(frozen=True)
class TableRow:
    """A line of a table.

    Attributes:
        group: name of the breakdown, such as "task"; "" for all problems.
        name: name of the part, such as "geometry problem solving".
        score: score in the benchmark's unit, mostly percent.
        correct: number of right responses; None if nothing is counted.
        total: number of responses.
    """

    group: str
    name: str
    score: float
    correct: float | None
    total: int


@dataclass(frozen=True)
class Table:
    """A benchmark's table.

    Attributes:
        headline: name of the number that papers report.
        score: value of the headline, unrounded.
        rows: all lines, the headline first.
    """

    headline: str
    score: float
    rows: tuple[TableRow, ...]

    def flat(self) -> dict[str, float]:
        """Returns every score by its name, "group/name"."""
        return {f"{row.group}/{row.name}" if row.group else row.name: row.score for row in self.rows}


NOT_JUDGED = "not judged: "
"""What a refused request to a judge has in the place of a reply, followed by the reason."""


@dataclass(frozen=True)
class Judge(Generic[RowOf]):
    """How a judge is asked about a response.

    Attributes:
        messages: returns the chat for a row, a response and the number of earlier unreadable replies.
        read: returns the points of a reply; None if it has none.
        temperature: returns the sampling temperature for the number of earlier tries.
        max_tokens: most tokens of a reply.
        tries: number of replies asked for before `otherwise` counts.
        otherwise: points of a response without a readable reply.
        model: name of the judge that published numbers used.
    """

    messages: Callable[[RowOf, str, int], list[dict[str, str]]]
    read: Callable[[str], tuple[float, ...] | None]
    temperature: Callable[[int], float]
    max_tokens: int
    tries: int
    otherwise: tuple[float, ...]
    model: str


@dataclass(frozen=True)
class Benchmark(Generic[RowOf]):
    """A benchmark: its problems, questions, scores and table.

    Attributes:
        name: name on the command line.
        title: name in papers.
        id_field: field that holds a problem's id.
        load: returns the problems in the official files of a folder or file.
        question: returns the prompt of a problem, for a direct answer or (True) for reasoning first.
        score: scores a response.
        table: makes the table of rows with their values [N, W].
        max_new_tokens: most tokens of a direct answer, and of one with reasoning.
        where: source of the official files.
        judge: how a judge grades responses, if the benchmark needs one.
        extractor: how a language model reads the short answer out of a response, if the official rule asks one.
        needed: fields that scoring a row needs.
        decimals: number of decimals of printed scores.
        problem: returns what is wrong with a row's fields, or None.
        named: returns a row with its id and the fields that another field implies.
        response_fields: fields that may hold the response; the first one that a row has counts.
        modes: modes that the benchmark has; without "official" it has no rule of its own.
        variants: versions of the official rule, the default first; a row's `normaliser` names one.
        counts: names of table rows that are whole numbers.
        compared: the number that `mpo eval compare` compares; None is the share of right answers, or judge's points.
        compared_problem: returns the problem's name for a row of scores; None takes the row's id.
        compared_points: number of a row's last points that count for the response; 0 is all.
        counts_whole: whether a problem counts only if all of its rows are right.
    """

    name: str
    title: str
    id_field: str
    load: Callable[[Path], list[RowOf]]
    question: Callable[[RowOf, bool], str]
    score: Callable[[RowOf, str, Mode], Score]
    table: Callable[[Sequence[RowOf], Any], Table]
    max_new_tokens: tuple[int, int]
    where: str
    needed: tuple[str, ...]
    judge: Judge[RowOf] | None = None
    extractor: Judge[RowOf] | None = None
    decimals: int = 2
    problem: Callable[[RowOf], str | None] = lambda row: None
    named: Callable[[RowOf], RowOf] = lambda row: row
    response_fields: tuple[str, ...] = ("response", "prediction", "text", "answer_text", "model_answer")
    modes: tuple[Mode, ...] = ("robust", "official")
    variants: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    compared: str | None = None
    compared_problem: Callable[[RowOf, int], str] | None = None
    compared_points: int = 0
    counts_whole: bool = False


def verdict_score(verdict: Verdict) -> Score:
    """Returns the score 1 for a right verdict, else 0; undecided counts as wrong."""
    return Score(verdict, (float(verdict.correct is True),))


def accuracies(
    rows: Sequence[RowOf], values: Any, headline: str, groups: dict[str, Callable[[RowOf], Sequence[str]]]
) -> Table:
    """Makes a table of accuracies in percent, of all rows and of each breakdown's parts, sorted by accuracy.

    Args:
        rows: rows with their problems.
        values: [N, 1], 1 for right and 0 for wrong.
        headline: name of the accuracy of all rows.
        groups: functions by a breakdown's name, which return the parts that a row belongs to.
    """
    correct = [float(value[0]) for value in values]
    lines = [TableRow("", headline, _percent(sum(correct), len(correct)), sum(correct), total=len(correct))]
    for group, parts_of in groups.items():
        counts: dict[str, list[float]] = {}
        for row, right in zip(rows, correct, strict=True):
            for part in parts_of(row):
                counts.setdefault(str(part), []).append(right)
        parts = [
            TableRow(group, part, _percent(sum(found), len(found)), sum(found), total=len(found))
            for part, found in counts.items()
        ]
        lines += sorted(parts, key=lambda line: (-line.score, line.name))
    return Table(headline, lines[0].score, tuple(lines))


def _percent(correct: float, total: int) -> float:
    return 100 * correct / total if total else 0.0
