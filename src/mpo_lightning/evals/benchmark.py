"""What a benchmark is: how its rows are named, asked, scored and summed up.

A row is a dict with the fields of the benchmark's own files; rows of responses may carry their problem or only its id.
Scores are computed a row at a time, tables from the rows and their values alone, so that values can be gathered from
many processes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.answers import Verdict

Row = dict[str, Any]
Mode = Literal["official", "robust"]


@dataclass(frozen=True)
class Score:
    """The score of one response.

    Attributes:
        verdict: extraction, prediction, decision and rule.
        values: what the table is computed from: 1.0 or 0.0 for right or wrong, a judge's points, or whatever the
            benchmark says.
    """

    verdict: Verdict
    values: tuple[float, ...]


@dataclass(frozen=True)
class TableRow:
    """A line of a table.

    Attributes:
        group: of the breakdown, such as "task"; "" for the whole.
        name: of the part, such as "geometry problem solving".
        score: in the benchmark's unit, mostly percent.
        correct: how many were right; None where nothing is counted.
        total: how many there were.
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
        headline: the name of the number that papers report.
        score: that number, unrounded.
        rows: all of them, the headline first.
    """

    headline: str
    score: float
    rows: tuple[TableRow, ...]

    def flat(self) -> dict[str, float]:
        """Every score by name, "group/name"."""
        return {f"{row.group}/{row.name}" if row.group else row.name: row.score for row in self.rows}


@dataclass(frozen=True)
class Judge:
    """How a judge is asked about a response.

    Attributes:
        messages: the chat for a row, a response and the number of earlier replies that could not be read.
        read: points of a reply; None where there are none in it.
        temperature: by the number of earlier tries.
        max_tokens: of a reply.
        tries: replies asked for before `otherwise` counts.
        otherwise: points of a response whose replies could not be read.
        model: the judge that published numbers used.
    """

    messages: Callable[[Row, str, int], list[dict[str, str]]]
    read: Callable[[str], tuple[float, ...] | None]
    temperature: Callable[[int], float]
    max_tokens: int
    tries: int
    otherwise: tuple[float, ...]
    model: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark; see the module.

    Attributes:
        name: as on the command line.
        title: as in papers.
        id_field: the field that names a problem.
        load: the problems in the official files of a folder or file.
        question: the text to ask for a problem, for a direct answer or (True) with reasoning first.
        score: of a response.
        table: of rows with their values [N, W].
        max_new_tokens: of a direct answer and of one with reasoning.
        where: where its files come from.
        judge: for benchmarks whose responses a judge grades.
        extractor: a language model that the official rule asks for the short answer of a response.
        needed: fields that scoring a row needs.
        decimals: decimals of printed scores.
        problem: what is wrong with a row's fields, or None.
        named: a row with its id and the fields that another field implies.
        response_fields: fields that may hold the response, the first one that a row has.
        modes: whose rules there are; without "official" the benchmark has no rule of its own.
        variants: versions of the official rule, the default first; a row's `normaliser` names one.
        counts: rows of the table that are whole numbers.
        compared: what `mpo eval compare` compares; None is the share of right answers, or the judge's points.
        compared_problem: name of the problem that a row of scores is about; None takes the row's id.
        compared_points: how many of a row's points, at the end, stand for the response; 0 is all of them.
        counts_whole: whether a problem counts only if all of its rows are right.
    """

    name: str
    title: str
    id_field: str
    load: Callable[[Path], list[Row]]
    question: Callable[[Row, bool], str]
    score: Callable[[Row, str, Mode], Score]
    table: Callable[[Sequence[Row], Any], Table]
    max_new_tokens: tuple[int, int]
    where: str
    needed: tuple[str, ...]
    judge: Judge | None = None
    extractor: Judge | None = None
    decimals: int = 2
    problem: Callable[[Row], str | None] = lambda row: None
    named: Callable[[Row], Row] = lambda row: row
    response_fields: tuple[str, ...] = ("response", "prediction", "text", "answer_text", "model_answer")
    modes: tuple[Mode, ...] = ("robust", "official")
    variants: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    compared: str | None = None
    compared_problem: Callable[[Row, int], str] | None = None
    compared_points: int = 0
    counts_whole: bool = False


def verdict_score(verdict: Verdict) -> Score:
    """1 for right; undecided counts as wrong."""
    return Score(verdict, (float(verdict.correct is True),))


def accuracies(
    rows: Sequence[Row], values: Any, headline: str, groups: dict[str, Callable[[Row], Sequence[str]]]
) -> Table:
    """A table of percentages, of all rows and of each group's parts; parts by falling accuracy.

    Args:
        rows: problems.
        values: [N, 1], 1 for right and 0 for wrong.
        headline: its name.
        groups: for a breakdown's name the parts that a row belongs to.
    """
    correct = [float(value[0]) for value in values]
    lines = [TableRow("", headline, _percent(sum(correct), len(correct)), sum(correct), len(correct))]
    for group, parts_of in groups.items():
        counts: dict[str, list[float]] = {}
        for row, right in zip(rows, correct, strict=True):
            for part in parts_of(row):
                counts.setdefault(str(part), []).append(right)
        parts = [
            TableRow(group, part, _percent(sum(found), len(found)), sum(found), len(found))
            for part, found in counts.items()
        ]
        lines += sorted(parts, key=lambda line: (-line.score, line.name))
    return Table(headline, lines[0].score, tuple(lines))


def _percent(correct: float, total: int) -> float:
    return 100 * correct / total if total else 0.0
