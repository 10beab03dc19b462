"""Reads what the commands left and sums it up: accuracies with intervals, paired tests, sound reasoning, shifts of log-probs, curves, examples."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from miniature.report import write_report
from miniature.steps import check_steps
from miniature.study import Setting, Size
from miniature.world import Problem, draw_problem
from mpo_lightning.evals.compare import Run, compare, read_run

Row = dict[str, Any]


def collect(folder: Path, size: Size, cells: list[tuple[int, int]], chosen: dict[str, Setting]) -> None:
    """Writes results.json of all cells that are done, and the report.

    Args:
        folder: of the study.
        size: of the study.
        cells: (base, pair set).
        chosen: the setting of each method.
    """
    done = [
        (base, variant)
        for base, variant in cells
        if all((_home(folder, base, variant, one) / "direct/scores.jsonl").is_file() for one in chosen.values())
    ]
    results = {
        "command": f"python {' '.join(sys.argv)}",
        "size": json.loads(json.dumps(vars(size))),
        "sweep": json.loads((folder / "sweep.json").read_text(encoding="utf-8")),
        "cells": [cell_results(folder, base, variant, chosen) for base, variant in done],
        "stages": _rows(folder / "stages.jsonl"),
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_report(folder, results)


def cell_results(folder: Path, base: int, variant: int, chosen: dict[str, Setting]) -> Row:
    """One pair set of one base: the base and every method on the same test problems."""
    homes = {"base": folder / f"base-{base}"} | {name: _home(folder, base, variant, one) for name, one in chosen.items()}
    rows = [measured(name, home) for name, home in homes.items()]
    runs = {name: _named(read_run(home / "greedy"), name) for name, home in homes.items()}
    for row, line in zip(rows, compare(list(runs.values())), strict=True):
        row |= {"greedy": line.score, "low": line.low, "high": line.high, "over_base": line.difference, "p_base": line.p}
    if "SFT" in runs:
        for row in rows:
            if row["name"] not in ("base", "SFT"):
                beside = compare([runs["SFT"], runs[row["name"]]])[1]
                row |= {"over_sft": beside.difference, "p_sft": beside.p}
    for row in rows[1:]:
        row |= shifts(homes[row["name"]] / "shift") | {"setting": vars(chosen[row["name"]])}
    manifest = json.loads((folder / f"cell-{base}-{variant}/build/manifest.json").read_text(encoding="utf-8"))
    curves = {name: curve(home) for name, home in homes.items() if name != "base"}
    return {
        "base": base, "pair_set": variant, "rows": rows, "pairs": manifest["shards"], "pair_statistics": pair_statistics(folder / f"cell-{base}-{variant}/build"),
        "curves": curves, "examples": examples(homes),
    }  # fmt: skip


def measured(name: str, home: Path) -> Row:
    """What the three evaluations of a model say."""
    tables = {
        kind: json.loads((home / kind / "scores.table.json").read_text(encoding="utf-8"))
        for kind in ("greedy", "sampled", "direct")
    }
    numbers, drawn = tables["greedy"]["numbers"], tables["sampled"]["numbers"]
    most = max(int(key.removeprefix("pass@")) for key in drawn if key.startswith("pass@"))
    right = sound = 0
    for response, problem, correct in responses(home / "greedy"):
        right += correct
        sound += correct and check_steps(response, problem).sound
    return {
        "name": name, "direct": tables["direct"]["score"], "sampled": drawn["pass@1"], "pass": drawn[f"pass@{most}"], "k": most, "majority": drawn[f"majority@{most}"],
        "format": numbers["format rate"], "tokens": numbers["tokens"], "sound": 100 * sound / right if right else 0.0,
    }  # fmt: skip


def responses(run: Path) -> Iterator[tuple[str, Problem, bool]]:
    """Each response of a run with its problem and whether it is right."""
    decisions = _rows(run / "scores.jsonl")
    for row, decision in zip(_rows(run / "responses.jsonl"), decisions, strict=True):
        yield row["response"] or "", problem_of(row), decision["correct"] is True


def problem_of(row: Row) -> Problem:
    """The problem behind a row of problems.jsonl; its numbers are drawn again from the split's seed, which the row names."""
    problem = draw_problem(row["world_seed"], row["id"])
    assert str(problem.answer) == row["answer"]
    return problem


def shifts(folder: Path) -> Row:
    """How far training moved the log-probs of pairs of the test problems, in nats an answer, and how often the chosen side's moved further up."""
    rows = _rows(sorted(folder.glob("version_*/scores-0.jsonl"))[-1])
    beta = 0.1  # of configs/recipe/mpo.yaml, with which `mpo test` computes rewards
    chosen = [row["reward_chosen"] / beta for row in rows]
    rejected = [row["reward_rejected"] / beta for row in rows]
    return {
        "shift_chosen": mean(chosen), "shift_rejected": mean(rejected), "pair_accuracy": 100 * mean(a > b for a, b in zip(chosen, rejected, strict=True)),
    }  # fmt: skip


def pair_statistics(build: Path) -> Row:
    """How many pairs of each kind there are, and how far their sides differ: the share of words that only one of them has."""
    found: Row = {}
    for kind in ("correctness", "dropout_ntp"):
        pairs = [row for path in sorted((build / kind / "annotations").glob("*.jsonl")) for row in _rows(path)]
        differences = [_difference(row["chosen"], row["rejected"]) for row in pairs]
        if pairs:
            found[kind] = {"pairs": len(pairs), "difference": 100 * mean(differences)}
    return found


def _difference(chosen: str, rejected: str) -> float:
    first, second = chosen.split(), rejected.split()
    return 1 - 2 * sum(min(first.count(word), second.count(word)) for word in set(first)) / max(1, len(first) + len(second))


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


def _home(folder: Path, base: int, variant: int, setting: Setting) -> Path:
    return folder / f"cell-{base}-{variant}" / "tune" / setting.name


def _rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
