"""Paired differences of runs on the same problems: of one cell, and over all of them."""

from statistics import mean, stdev
from typing import Any

from mpo_lightning.evals.compare import Run, Z, compare

Row = dict[str, Any]


def beside_sft(runs: dict[str, Run], name: str) -> Row:
    """A method's difference from SFT on the same problems and its p-value; nothing for the base and SFT itself."""
    if name in ("base", "SFT"):
        return {}
    line = compare([runs["SFT"], runs[name]])[1]
    return {"over_sft": line.difference, "p_sft": line.p}


def beside_control(control: Run, run: Run) -> Row:
    """The difference of a run from another on the same problems and its p-value."""
    line = compare([control, run])[1]
    return {"difference": line.difference, "p": line.p}


def summary(cells: list[dict[str, Run]], tested: bool = True) -> list[Row]:
    """Every method over all cells, all on the same problems: mean accuracy, and mean difference from the base and from
    SFT.

    A difference has a 95 % interval over problems (for these bases and pair sets: each problem's mean over the cells is
    one observation), its smallest and largest value in a cell, and the number of cells in which it is above and below
    zero with p < 0.05.

    Args:
        cells: of each the runs by method, the base among them.
        tested: counts cells by p.
    """
    rows = []
    for name in cells[0] if cells else ():
        scores = [100 * mean(runs[name].right.values()) for runs in cells]
        row: Row = {"name": name, "score": mean(scores)}
        for other, key in (("base", "over_base"), ("SFT", "over_sft")):
            if name not in ("base", other):
                row[key] = difference(cells, name, other, tested)
        rows.append(row)
    return rows


def difference(cells: list[dict[str, Run]], name: str, other: str, tested: bool) -> Row:
    """The mean difference of two methods over all cells, with a 95 % interval over problems; see `summary`."""
    problems = list(cells[0][name].right)
    by_cell = [
        [100 * (runs[name].right[problem] - runs[other].right[problem]) for problem in problems] for runs in cells
    ]
    of_cells, of_problems = (
        [mean(values) for values in by_cell],
        [mean(values) for values in zip(*by_cell, strict=True)],
    )
    half = Z * stdev(of_problems) / len(problems) ** 0.5 if len(problems) > 1 else 0.0
    middle = mean(of_cells)
    row = {"mean": middle, "low": middle - half, "high": middle + half, "least": min(of_cells), "most": max(of_cells)}
    if tested:
        lines = [compare([runs[other], runs[name]])[1] for runs in cells]
        clear = [value for value, line in zip(of_cells, lines, strict=True) if line.p is not None and line.p < 0.05]
        row |= {"above": sum(value > 0 for value in clear), "below": sum(value < 0 for value in clear)}
    return row
