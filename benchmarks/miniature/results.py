"""Summarizes the results of the commands: accuracies with intervals, paired tests, sound reasoning, shifts of
log-probs, curves, examples.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from miniature.cells import Base, Cell, condition_cells
from miniature.commands import done
from miniature.files import read_json, read_lines, write_whole
from miniature.pairs import pair_statistics, seed_of_questions
from miniature.report import write_report
from miniature.settings import chosen_settings
from miniature.steps import check_steps, works_hard
from miniature.study import SHIFT_BETA, Setting, Size, cell_commands, home_of, pair_folders, versions
from miniature.summary import beside_control, beside_sft, summary
from miniature.world import Problem, draw_problem
from mpo_lightning.evals.compare import Run, compare, read_run

Row = dict[str, Any]


def collect(folder: Path, size: Size) -> None:
    """Writes results.json of all cells and conditions in a study's folder that are done, and the report.

    Args:
        folder: folder of the study.
        size: size of the study.
    """
    cells = [cell for cell in cells_in(folder) if finished(folder, cell, size)]
    conditions = [cell for cell in condition_cells() if finished(folder, cell, size)]
    found = [cell_results(folder, cell, size) for cell in cells]
    others = [condition_results(folder, cell, size) for cell in conditions]
    results = {
        "command": f"python {' '.join(sys.argv)}",
        "size": json.loads(json.dumps(vars(size))),
        "sweeps": [read_json(path) for path in sorted(folder.glob("cell-*/sweep.json"))],
        "cells": found,
        "summary": summary([runs_of(folder, cell, "greedy") for cell in cells]),
        "summary_sampled": summary([runs_of(folder, cell, "sampled") for cell in cells], tested=False),
        "conditions": others,
        "summary_even": summary([runs_of(folder, cell, "greedy") for cell in conditions if cell.condition.even]),
        "stages": stages(folder),
    }
    write_whole(folder / "results.json", json.dumps(results, indent=1) + "\n")
    write_report(folder, results)


def cells_in(folder: Path) -> list[Cell]:
    """The cells that a study has begun, in order."""
    found = [re.fullmatch(r"cell-(\d+)-(\d+)", path.name) for path in folder.glob("cell-*")]
    return [Cell(Base(base), pair_set) for base, pair_set in sorted((int(one[1]), int(one[2])) for one in found if one)]


def finished(folder: Path, cell: Cell, size: Size) -> bool:
    """Whether all of a cell is measured."""
    chosen = chosen_settings(folder, cell)
    trained = bool(chosen) and all(versions(folder / home_of(cell, setting), "export") for setting in chosen.values())
    return trained and all(done(folder, command) for command in cell_commands(folder, cell, chosen, size))


def stages(folder: Path) -> list[Row]:
    """What took how long; a last line that a kill cut is left out."""
    lines = (folder / "stages.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def runs_of(folder: Path, cell: Cell, kind: str) -> dict[str, Run]:
    """The scored responses of the base and of every method."""
    return {name: _named(read_run(home / kind), name) for name, home in _homes(folder, cell).items()}


def cell_results(folder: Path, cell: Cell, size: Size) -> Row:
    """One pair set of one base: the base and every method on the same test problems, in every way."""
    homes, chosen = _homes(folder, cell), chosen_settings(folder, cell)
    rows = compared(folder, cell)
    for row, home in zip(rows, homes.values(), strict=True):
        row |= drawn_and_direct(home)
    for row in rows[1:]:
        row |= shifts(homes[row["name"]] / "shift") | {"setting": vars(chosen[row["name"]])}
    return {
        "base": cell.base.number,
        "pair_set": cell.pair_set,
        "rows": rows,
        "pair_statistics": told_of_pairs(folder, cell, size),
        "curves": {name: curve(home) for name, home in homes.items() if name != "base"},
        "examples": examples(homes),
    }


def condition_results(folder: Path, cell: Cell, size: Size) -> Row:
    """The base and every method under another condition, by greedy responses to the test problems; MPO also beside MPO
    under the condition's control.
    """
    control = Cell(Base(0), cell.pair_set, cell.condition.control)
    found = {
        "condition": cell.name_of_condition + (f", set {cell.pair_set}" if cell.condition.even else ""),
        "said": cell.condition.said,
        "rows": compared(folder, cell),
        "pair_statistics": told_of_pairs(folder, cell, size),
        "steps": len(curve(_homes(folder, cell)["MPO"])["chosen"]),
        "control": cell.condition.control or "as above",
    }
    if not cell.condition.even and finished(folder, control, size):
        found["beside_control"] = beside_control(
            runs_of(folder, control, "greedy")["MPO"], runs_of(folder, cell, "greedy")["MPO"]
        )
    return found


def told_of_pairs(folder: Path, cell: Cell, size: Size) -> Row:
    """What the pairs of a cell are like."""
    return pair_statistics(pair_folders(folder, cell), seed_of_questions(cell.pair_set, size.heart is not None))


def compared(folder: Path, cell: Cell) -> list[Row]:
    """Each model's greedy responses, beside the base's and SFT's on the same problems."""
    rows = [measured(name, home) for name, home in _homes(folder, cell).items()]
    runs = runs_of(folder, cell, "greedy")
    for row, line in zip(rows, compare(list(runs.values())), strict=True):
        row |= {
            "greedy": line.score,
            "low": line.low,
            "high": line.high,
            "over_base": line.difference,
            "p_base": line.p,
        }
        row |= beside_sft(runs, row["name"])
    return rows


def measured(name: str, home: Path) -> Row:
    """What greedy responses are like."""
    numbers = read_json(home / "greedy/scores.table.json")["numbers"]
    found = list(responses(home / "greedy"))
    steps = [(check_steps(response, problem), correct) for response, problem, correct in found]
    right = [one for one, correct in steps if correct]
    return {
        "name": name,
        "format": numbers["format rate"],
        "tokens": numbers["tokens"],
        "misread": 100 * mean(not one.read for one, _ in steps),
        "sound": 100 * mean(one.sound for one in right) if right else 0.0,
        "hard": 100 * mean(works_hard(response) for response, _, _ in found),
    }


def drawn_and_direct(home: Path) -> Row:
    """Accuracy of sampled responses and of responses without reasoning."""
    drawn, direct = (read_json(home / kind / "scores.table.json") for kind in ("sampled", "direct"))
    most = max(int(key.removeprefix("pass@")) for key in drawn["numbers"] if key.startswith("pass@"))
    return {
        "direct": direct["score"],
        "sampled": drawn["numbers"]["pass@1"],
        "k": most,
        "pass": drawn["numbers"][f"pass@{most}"],
    }


def responses(run: Path) -> Iterator[tuple[str, Problem, bool]]:
    """Each response of a run with its problem and whether it is right."""
    decisions = read_lines(run / "scores.jsonl")
    for row, decision in zip(read_lines(run / "responses.jsonl"), decisions, strict=True):
        yield row["response"] or "", problem_of(row), decision["correct"] is True


def problem_of(row: Row) -> Problem:
    """The problem behind a row of problems.jsonl; its numbers are drawn again from the split's seed, which the row
    names.
    """
    problem = draw_problem(row["world_seed"], row["id"])
    assert str(problem.answer) == row["answer"]
    return problem


def shifts(folder: Path) -> Row:
    """How far training moved the log-probs of pairs of the test problems, in nats an answer."""
    rows = read_lines(versions(folder, "scores-0.jsonl")[-1])
    return {
        f"shift_{side}": mean(row[f"reward_{side}"] for row in rows) / SHIFT_BETA for side in ("chosen", "rejected")
    }


def curve(run: Path) -> dict[str, list[float]]:
    """Margins and log-probs of chosen responses at every step, as `mpo fit` logged them; of a repeated step the
    last.
    """
    names = {"margin": "train/margin", "chosen": "train/logps_chosen"}
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for path in versions(run, "metrics.csv"):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, column in names.items():
                    if row.get(column):
                        found[name][int(row["step"])] = float(row[column])
    return {name: [values[step] for step in sorted(values)] for name, values in found.items()}


def examples(homes: dict[str, Path], count: int = 4) -> list[Row]:
    """Test problems that MPO or else the last method turned right or wrong, two of each, with the responses of the base
    and of it.
    """
    method = list(homes)[-1]
    before, after = list(responses(homes["base"] / "greedy")), list(responses(homes[method] / "greedy"))
    found: list[Row] = []
    for wanted in (True, False):
        changed = [
            (old, new) for old, new in zip(before, after, strict=True) if new[2] is wanted and old[2] is not wanted
        ]
        found += [
            {
                "question": old[1].question,
                "number": old[1].number,
                "answer": old[1].answer,
                "before": old[0],
                "after": new[0],
                "method": method,
                "right_after": wanted,
            }
            for old, new in changed[: count // 2]
        ]
    return found


def _named(run: Run, name: str) -> Run:
    return Run(name, run.right, run.undecided)


def _homes(folder: Path, cell: Cell) -> dict[str, Path]:
    """Where each model's results are."""
    chosen: dict[str, Setting] = chosen_settings(folder, cell)
    return {"base": folder / cell.base.name} | {name: folder / home_of(cell, one) for name, one in chosen.items()}
