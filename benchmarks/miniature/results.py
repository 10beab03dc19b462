"""Reads what the commands left and sums it up: accuracies with intervals, paired tests, sound reasoning, shifts of log-probs, curves, examples."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from miniature.cells import Cell
from miniature.files import difference, read_lines
from miniature.report import write_report
from miniature.steps import check_steps
from miniature.study import Setting, Size, pair_folders
from miniature.world import NAMES, Problem, draw_problem
from mpo_lightning.evals.compare import Run, compare, read_run

Row = dict[str, Any]


def collect(folder: Path, size: Size, cells: list[Cell], conditions: list[Cell], swept: dict[str, dict[str, Setting]]) -> None:
    """Writes results.json of all cells that are done, and the report.

    Args:
        folder: of the study.
        size: of the study.
        cells: that are measured in full.
        conditions: of which only greedy responses are measured.
        swept: the settings of each method: those of the first cell, which hold for all of them, and of conditions with a sweep of their own.
    """
    done = [cell for cell in cells if _done(folder, cell, swept[cell.sweep], "direct")]
    others = [cell for cell in conditions if _done(folder, cell, swept[cell.sweep], "greedy")]
    sweeps = sorted(folder.glob("cell-*/sweep.json"))
    results = {
        "command": f"python {' '.join(sys.argv)}",
        "size": json.loads(json.dumps(vars(size))),
        "sweeps": [json.loads(path.read_text(encoding="utf-8")) for path in sweeps],
        "cells": [cell_results(folder, cell, swept[cell.sweep]) for cell in done],
        "conditions": [condition_results(folder, cell, swept[cell.sweep]) for cell in others],
        "stages": read_lines(folder / "stages.jsonl"),
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_report(folder, results)


def cell_results(folder: Path, cell: Cell, chosen: dict[str, Setting]) -> Row:
    """One pair set of one base: the base and every method on the same test problems, in every way."""
    homes = _homes(folder, cell, chosen)
    rows = compared(homes)
    for row, home in zip(rows, homes.values(), strict=True):
        row |= drawn_and_direct(home)
    for row in rows[1:]:
        row |= shifts(homes[row["name"]] / "shift") | {"setting": vars(chosen[row["name"]])}
    curves = {name: curve(home) for name, home in homes.items() if name != "base"}
    return {
        "base": cell.base.number, "pair_set": cell.pair_set, "rows": rows, "pair_statistics": pair_statistics(*pair_folders(folder, cell)),
        "curves": curves, "examples": examples(homes),
    }  # fmt: skip


def condition_results(folder: Path, cell: Cell, chosen: dict[str, Setting]) -> Row:
    """The base and every method under another condition, by greedy responses to the test problems."""
    return {
        "condition": cell.name_of_condition, "said": cell.condition.said, "rows": compared(_homes(folder, cell, chosen)),
        "pair_statistics": pair_statistics(*pair_folders(folder, cell)),
    }  # fmt: skip


def compared(homes: dict[str, Path]) -> list[Row]:
    """Each model's greedy responses, beside the base's and SFT's on the same problems."""
    rows = [measured(name, home) for name, home in homes.items()]
    runs = {name: _named(read_run(home / "greedy"), name) for name, home in homes.items()}
    for row, line in zip(rows, compare(list(runs.values())), strict=True):
        row |= {"greedy": line.score, "low": line.low, "high": line.high, "over_base": line.difference, "p_base": line.p}
        if row["name"] not in ("base", "SFT"):
            beside = compare([runs["SFT"], runs[row["name"]]])[1]
            row |= {"over_sft": beside.difference, "p_sft": beside.p}
    return rows


def measured(name: str, home: Path) -> Row:
    """What greedy responses are like."""
    numbers = json.loads((home / "greedy/scores.table.json").read_text(encoding="utf-8"))["numbers"]
    right = sound = 0
    for response, problem, correct in responses(home / "greedy"):
        right += correct
        sound += correct and check_steps(response, problem).sound
    return {
        "name": name, "format": numbers["format rate"], "tokens": numbers["tokens"], "sound": 100 * sound / right if right else 0.0,
    }  # fmt: skip


def drawn_and_direct(home: Path) -> Row:
    """Accuracy of drawn responses and of answers without reasoning."""
    drawn, direct = (json.loads((home / kind / "scores.table.json").read_text(encoding="utf-8")) for kind in ("sampled", "direct"))
    most = max(int(key.removeprefix("pass@")) for key in drawn["numbers"] if key.startswith("pass@"))
    found = {"direct": direct["score"], "sampled": drawn["numbers"]["pass@1"], "k": most}
    return found | {"pass": drawn["numbers"][f"pass@{most}"], "majority": drawn["numbers"][f"majority@{most}"]}


def responses(run: Path) -> Iterator[tuple[str, Problem, bool]]:
    """Each response of a run with its problem and whether it is right."""
    decisions = read_lines(run / "scores.jsonl")
    for row, decision in zip(read_lines(run / "responses.jsonl"), decisions, strict=True):
        yield row["response"] or "", problem_of(row), decision["correct"] is True


def problem_of(row: Row) -> Problem:
    """The problem behind a row of problems.jsonl; its numbers are drawn again from the split's seed, which the row names."""
    problem = draw_problem(row["world_seed"], row["id"])
    assert str(problem.answer) == row["answer"]
    return problem


def shifts(folder: Path) -> Row:
    """How far training moved the log-probs of pairs of the test problems, in nats an answer, and how often the chosen side's moved further up."""
    rows = read_lines(sorted(folder.glob("version_*/scores-0.jsonl"))[-1])
    beta = 0.1  # of configs/recipe/mpo.yaml, with which `mpo test` computes rewards
    chosen = [row["reward_chosen"] / beta for row in rows]
    rejected = [row["reward_rejected"] / beta for row in rows]
    return {
        "shift_chosen": mean(chosen), "shift_rejected": mean(rejected), "pair_accuracy": 100 * mean(a > b for a, b in zip(chosen, rejected, strict=True)),
    }  # fmt: skip


def pair_statistics(*places: Path) -> Row:
    """How many pairs of each kind there are, in how many of a hundred words their sides differ, and in how many without the picture a colour is named after the cut.

    Args:
        places: folders with annotations of one kind each.
    """
    found: Row = {}
    for place in places:
        pairs = [
            row for path in sorted([*place.glob("annotations/*.jsonl"), *place.glob("pairs.jsonl")]) for row in read_lines(path)
        ]
        if pairs:
            kind = "dropout_ntp" if pairs[0]["kind"] == "dropout_ntp" else "correctness"
            found[kind] = {
                "pairs": len(pairs),
                "difference": 100 * mean(difference(row["chosen"], row["rejected"]) for row in pairs),
            }
            if kind == "dropout_ntp":
                ends = [row["chosen"][row["rejected_meta"]["kept_characters"] :] for row in pairs]
                found[kind]["seen_after_cut"] = sum(any(name in end for name in NAMES) for end in ends)
    return found


def curve(run: Path) -> dict[str, list[float]]:
    """Margins and log-probs of chosen answers, a step a number, as `mpo fit` logged them."""
    with sorted(run.glob("version_*/metrics.csv"))[-1].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {"margin": "train/margin", "chosen": "train/logps_chosen", "rejected": "train/logps_rejected"}
    return {name: [float(row[column]) for row in rows if row.get(column)] for name, column in names.items()}


def examples(homes: dict[str, Path], count: int = 4) -> list[Row]:
    """Test problems that MPO or else the last method turned right or wrong, two of each, with the responses of the base and of it."""
    method = list(homes)[-1]
    before, after = list(responses(homes["base"] / "greedy")), list(responses(homes[method] / "greedy"))
    found: list[Row] = []
    for wanted in (True, False):
        changed = [(old, new) for old, new in zip(before, after, strict=True) if new[2] is wanted and old[2] is not wanted]
        found += [
            {"question": old[1].question, "number": old[1].number, "answer": old[1].answer, "before": old[0], "after": new[0], "method": method, "right_after": wanted}
            for old, new in changed[: count // 2]
        ]  # fmt: skip
    return found


def _named(run: Run, name: str) -> Run:
    return Run(name, run.right, run.undecided)


def _homes(folder: Path, cell: Cell, chosen: dict[str, Setting]) -> dict[str, Path]:
    """Where each model's results are."""
    return {"base": folder / cell.base.name} | {name: folder / cell.name / "tune" / one.name for name, one in chosen.items()}


def _done(folder: Path, cell: Cell, chosen: dict[str, Setting], last: str) -> bool:
    """Whether every method has been measured, up to the last kind of it."""
    return bool(chosen) and all((home / last / "scores.jsonl").is_file() for home in _homes(folder, cell, chosen).values())
