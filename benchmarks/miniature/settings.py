"""Learning rate and beta of each method: chosen on the validation problems, never on the test problems, and kept in
sweep.json of the cell that they were chosen with.
"""

import json
from dataclasses import replace
from pathlib import Path

from miniature.cells import Base, Cell
from miniature.files import read_json, write_whole
from miniature.study import METHODS, Setting, home_of


def _sweep_file(folder: Path, cell: Cell) -> Path:
    """Of a condition with responses of its own that of its first cell; of all other cells that of the first one."""
    first = Cell(cell.base, 0, cell.name_of_condition) if cell.condition.own_responses else Cell(Base(0), 0)
    return folder / first.name / "sweep.json"


def chosen_settings(folder: Path, cell: Cell) -> dict[str, Setting]:
    """The setting of each method that holds for a cell; none where none was chosen yet."""
    path = _sweep_file(folder, cell)
    rows = read_json(path)["settings"] if path.is_file() else []
    return {row["method"]: Setting(row["method"], row["rate"], row["beta"]) for row in rows if row["chosen"]}


def best_of(folder: Path, cell: Cell, settings: list[Setting]) -> list[Setting]:
    """The best setting of each method on the validation problems; of equals the one with the smaller learning rate,
    then the larger beta.
    """
    return [
        max(
            (setting for setting in settings if setting.method == method),
            key=lambda setting: (_score(folder / home_of(cell, setting)), -setting.rate, setting.beta),
        )
        for method in METHODS
    ]


def beyond(tried: list[Setting], best: list[Setting]) -> list[Setting]:
    """Settings to try next if the best one of a method lies at an edge of the tried ones: a third or three times its
    learning rate, a tenth or ten times its beta. Nothing in a study that tries one learning rate only.
    """
    found = []
    for one in best:
        rates = [other.rate for other in tried if (other.method, other.beta) == (one.method, one.beta)]
        betas = [other.beta for other in tried if (other.method, other.rate) == (one.method, one.rate)]
        found += [replace(one, rate=_rounded(rate)) for rate in _past(one.rate, rates, 3)]
        found += [replace(one, beta=_rounded(beta)) for beta in _past(one.beta, betas, 10) if one.method != "SFT"]
    return found if len({one.rate for one in tried}) > 1 else []


def _past(value: float, tried: list[float], factor: float) -> list[float]:
    return [value / factor] * (value == min(tried)) + [value * factor] * (value == max(tried))


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")


def choose(folder: Path, cell: Cell, settings: list[Setting]) -> None:
    """Writes the best setting of each method.

    Args:
        folder: folder of the study.
        cell: cell in which all were tried.
        settings: settings to choose from.
    """
    best = best_of(folder, cell, settings)
    rows = [
        vars(setting) | {"validation": _score(folder / home_of(cell, setting)), "chosen": setting in best}
        for setting in settings
    ]
    found = {"cell": cell.name, "base": _score(folder / cell.base.name), "settings": rows}
    write_whole(_sweep_file(folder, cell), json.dumps(found, indent=1) + "\n")


def _score(home: Path) -> float:
    return float(read_json(home / "validation/scores.table.json")["score"])
