"""Learning rate and beta of each method: chosen on the validation problems, never on the test problems, and kept in sweep.json of the cell that they were chosen with."""

import json
from pathlib import Path

from miniature.cells import Base, Cell
from miniature.files import read_json, write_whole
from miniature.study import METHODS, Setting, home_of


def _sweep_file(folder: Path, cell: Cell) -> Path:
    """Of a condition with responses of its own its own; of all other cells that of the first one."""
    return folder / (cell if cell.condition.own_responses else Cell(Base(0), 0)).name / "sweep.json"


def chosen_settings(folder: Path, cell: Cell) -> dict[str, Setting]:
    """The setting of each method that holds for a cell; none where none was chosen yet."""
    path = _sweep_file(folder, cell)
    rows = read_json(path)["settings"] if path.is_file() else []
    return {row["method"]: Setting(row["method"], row["rate"], row["beta"]) for row in rows if row["chosen"]}


def choose(folder: Path, cell: Cell, settings: list[Setting]) -> None:
    """Writes the best setting of each method on the validation problems; of equals the one with the smaller learning rate, then the larger beta.

    Args:
        folder: of the study.
        cell: in which they were all tried.
        settings: to choose from.
    """
    scores = {setting: _score(folder / home_of(cell, setting)) for setting in settings}
    best = [
        max(
            (setting for setting in settings if setting.method == method),
            key=lambda setting: (scores[setting], -setting.rate, setting.beta),
        )
        for method in METHODS
    ]
    rows = [vars(setting) | {"validation": scores[setting], "chosen": setting in best} for setting in settings]
    found = {"cell": cell.name, "base": _score(folder / cell.base.name), "settings": rows}
    write_whole(_sweep_file(folder, cell), json.dumps(found, indent=1) + "\n")


def _score(home: Path) -> float:
    return float(read_json(home / "validation/scores.table.json")["score"])
