"""`mpo eval compare`: runs side by side, with intervals, paired tests and a figure.

Intervals are Wilson's at 95 % for one sample a problem, otherwise normal ones over the problems' means. Each run is
compared with the first one on common problems, by McNemar's exact test: of the problems that only one of them has
right, is the split as even as chance? A judge's points, and shares of several samples, are compared by flipping signs
at random. POPE's accuracy is compared, not its F1; CRPE's questions with all four rotations right; LLaVA-Bench's points
of the model.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark
from mpo_lightning.evals.files import read_rows
from mpo_lightning.evals.registry import all_benchmarks

Z = 1.959963984540054
IDS = ("pid", "id", "question_id")


@dataclass(frozen=True)
class Run:
    """One scored run.

    Attributes:
        name: name in the table.
        right: share of right samples, or mean points, by problem.
        undecided: share of responses without a decision.
        number: name of the number in `right`.
        judged: whether a judge gave points.
    """

    name: str
    right: dict[str, float]
    undecided: float
    number: str = "correct, %"
    judged: bool = False


@dataclass(frozen=True)
class Comparison:
    """A run beside the first one.

    Attributes:
        name: name of the run.
        problems: number of problems.
        score: score in percent, or mean points.
        low: lower end of the 95 % interval, in the same unit.
        high: upper end of the interval.
        undecided: undecided responses in percent.
        common: number of problems that both runs have; None for the first run.
        gained: number of problems that only this run has right, or with more points.
        lost: number of problems that only the first run has right, or with more points.
        difference: difference of the scores on common problems, in points.
        p: p-value of the paired test.
        number: name of the score.
    """

    name: str
    problems: int
    score: float
    low: float
    high: float
    undecided: float
    common: int | None = None
    gained: int | None = None
    lost: int | None = None
    difference: float | None = None
    p: float | None = None
    number: str = "correct, %"


def read_run(path: Path) -> Run:
    """Reads the scores that `mpo eval score` or `run` wrote: a file, or scores.jsonl in a folder.

    Raises:
        InputError: the file holds no decisions.
    """
    file = path / "scores.jsonl" if path.is_dir() else path
    rows = read_rows(file)
    table = file.with_suffix(".table.json")
    name = str(json.loads(table.read_text(encoding="utf-8")).get("benchmark", "")) if table.is_file() else ""
    benchmark = all_benchmarks().get(name)
    judged = "points" in rows[0]
    found: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        if "correct" not in row or ("points" in row) is not judged:
            raise InputError(f"{file}:{number + 1}: has no 'correct'; give a file that `mpo eval score` wrote")
        found.setdefault(_problem(row, number, benchmark), []).append(_value(row, benchmark))
    whole = benchmark is not None and benchmark.counts_whole
    return Run(
        path.name if path.is_dir() else path.stem,
        {name: float(all(values)) if whole else sum(values) / len(values) for name, values in found.items()},
        0.0 if judged else sum(row["correct"] is None for row in rows) / len(rows),
        (benchmark.compared if benchmark else None) or ("judge's points" if judged else "correct, %"),
        judged=judged,
    )


def _problem(row: dict[str, Any], number: int, benchmark: Benchmark[Any] | None) -> str:
    """Returns the name of a row's problem."""
    if benchmark is not None and benchmark.compared_problem is not None:
        return benchmark.compared_problem(row, number)
    return next((str(row[field]) for field in IDS if field in row), str(number))


def _value(row: dict[str, Any], benchmark: Benchmark[Any] | None) -> float:
    if "points" not in row:
        return float(row["correct"] is True)
    points = row["points"][-benchmark.compared_points if benchmark else 0 :]
    return float(sum(points) / len(points))


def wilson(right: float, total: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share, from 0 to 1."""
    share = right / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2)) / (1 + Z**2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(gained: int, lost: int) -> float:
    """Returns the two-sided exact p-value of McNemar's test: gains and losses are equally likely."""
    total = gained + lost
    tail = sum(comb(total, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**total)


def sign_flip(differences: Sequence[float], draws: int = 10_000) -> float:
    """Returns the two-sided p-value of a mean difference, by flipping signs at random."""
    import random

    rng = random.Random(0)
    changed = [difference for difference in differences if difference]
    observed = abs(sum(changed))
    hits = sum(
        abs(sum(value if rng.random() < 0.5 else -value for value in changed)) >= observed - 1e-12 for _ in range(draws)
    )
    return (hits + 1) / (draws + 1)


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Compares every run with the first one."""
    lines = []
    for number, run in enumerate(runs):
        values = list(run.right.values())
        total, mean = len(values), sum(values) / len(values)
        spread = Z * math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, total - 1) / total)
        low, high = mean - spread, mean + spread
        if not run.judged:
            one_each = all(value in (0, 1) for value in values)
            low, high = wilson(sum(values), total) if one_each else (max(0.0, low), min(1.0, high))
        unit = 1 if run.judged else 100
        line = Comparison(
            run.name,
            total,
            score=unit * mean,
            low=unit * low,
            high=unit * high,
            undecided=100 * run.undecided,
            number=run.number,
        )
        lines.append(_beside(line, run, runs[0]) if number else line)
    return lines


def _beside(line: Comparison, run: Run, first: Run) -> Comparison:
    common = [name for name in first.right if name in run.right]
    if run.number != first.number:
        raise InputError(
            f"{run.name} has {run.number}, but {first.name} has {first.number}; compare runs of the same benchmark"
        )
    if not common:
        raise InputError(f"{run.name} and {first.name} have no problem in common; compare runs of the same benchmark")
    differences = [run.right[name] - first.right[name] for name in common]
    gained, lost = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
    whole = not run.judged and all(value in (-1, 0, 1) for value in differences)
    unit = 1 if run.judged else 100
    p = mcnemar(gained, lost) if whole else sign_flip(differences)
    return Comparison(
        line.name,
        line.problems,
        score=line.score,
        low=line.low,
        high=line.high,
        undecided=line.undecided,
        common=len(common),
        gained=gained,
        lost=lost,
        difference=unit * sum(differences) / len(common),
        p=p,
        number=line.number,
    )


def draw(lines: Sequence[Comparison], path: Path) -> None:
    """Draws a figure of every run's score with its interval, and a line at the first run's score."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.2 + 0.45 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, line in enumerate(lines):
        axes.errorbar(
            line.score,
            place,
            xerr=[[max(0.0, line.score - line.low)], [max(0.0, line.high - line.score)]],
            fmt="o",
            capsize=4,
            color="C0" if place else "black",
        )
        note = f"{line.score:.1f}" + (
            f"  ({line.difference:+.1f}, p = {line.p:.2g})"
            if line.p is not None and line.difference is not None
            else ""
        )
        axes.annotate(note, (line.score, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.axvline(lines[0].score, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.7)
    axes.set_xlabel(f"{lines[0].number} (95 % interval)")
    figure.savefig(path, dpi=150)
