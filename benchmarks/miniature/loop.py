"""The loop of the paper from end to end: a base, its responses, pairs, training by every method, evaluation.

A kill costs the command that was running at most, and mostly less: each of them goes on by itself, and one whose result is there is not run again.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from miniature.cells import CONDITIONS, Base, Cell, condition_cells
from miniature.commands import Command, run_all
from miniature.files import BASE, QUESTIONS, TEST, VALIDATION, write_base, write_by_difference, write_problems, write_questions
from miniature.results import collect
from miniature.study import (
    METHODS,
    REDUCED,
    Setting,
    Size,
    all_pairs_command,
    base_commands,
    build_command,
    eval_command,
    exported,
    held_out_command,
    shards_command,
    shift_command,
    sweep,
    tune_command,
)

EVALS = ("greedy", "sampled", "direct")


def main() -> None:
    """Entry point; see benchmarks/miniature.py."""
    parser = argparse.ArgumentParser(
        description="The paper in miniature: trains a base, builds pairs with it, trains on them by each loss, and says with intervals what each did."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/miniature"), help="folder of the study; goes on with what is there"
    )
    parser.add_argument("--bases", type=int, default=1, help="base models (default 1)")
    parser.add_argument("--pair-sets", type=int, default=1, help="pair sets of each base, from other questions (default 1)")
    parser.add_argument(
        "--conditions",
        action="store_true",
        help=f"also under other conditions: {', '.join(CONDITIONS)}",
    )
    parser.add_argument(
        "--reduced",
        action="store_true",
        help="all learned by heart in about two minutes: tries the machinery, its numbers mean nothing",
    )
    parser.add_argument("--at-once", type=int, default=2, help="commands at a time, one core each (default 2)")
    options = parser.parse_args()
    size = REDUCED if options.reduced else Size()
    study = Study(options.output, size, options.at_once)
    cells = [Cell(Base(base), variant) for base in range(options.bases) for variant in range(options.pair_sets)]
    study.run(cells, condition_cells() if options.conditions else [])


class Study:
    """A study in a folder.

    Args:
        folder: of the study.
        size: how large.
        at_once: commands at a time.
    """

    def __init__(self, folder: Path, size: Size, at_once: int) -> None:
        self.folder, self.size, self.at_once = folder, size, at_once
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_size()

    def run(self, cells: list[Cell], conditions: list[Cell]) -> None:
        """All cells, and those of other conditions after them."""
        bases = list(dict.fromkeys(cell.base for cell in [*cells, *conditions]))
        self._world(bases, sorted({cell.pair_set for cell in cells}))
        self._bases(bases)
        pairs = list({cell.responses: cell for cell in [*cells, *conditions]}.values())
        builds = [held_out_command(self.folder, base, self.size) for base in dict.fromkeys(cell.base for cell in cells)]
        self._all([*builds, *(build_command(self.folder, cell, self.size) for cell in pairs)], "pairs")
        # Settings are chosen on the validation problems: once for all cells, with the first, and for each condition that has a sweep of its own.
        swept: dict[str, dict[str, Setting]] = {cell.sweep: {} for cell in [*cells, *conditions]}
        for cell in cells:
            chosen = self._trained(cell, swept[cell.sweep])
            self._measure(cell, list(chosen.values()))
            collect(self.folder, self.size, cells, conditions, swept)
        for cell in conditions:
            self._prepare(cell)
            chosen = self._trained(cell, swept[cell.sweep])
            self._all([self._eval(cell, setting, "greedy") for setting in chosen.values()], f"test, {cell.name}")
            collect(self.folder, self.size, cells, conditions, swept)

    def _world(self, bases: list[Base], variants: list[int]) -> None:
        size, world, heart = self.size, self.folder / "world", self.size.heart is not None
        for name, count, seed in (("test", size.test, TEST), ("validation", size.validation, VALIDATION)):
            _once(world / name / "problems.jsonl", partial(write_problems, world / name, count, 0 if heart else seed))
        for variant in variants:
            place = world / f"questions-{variant}"
            _once(place / "meta.json", partial(write_questions, place, size.questions, 0 if heart else QUESTIONS + variant))
        for base in bases:
            place = self.folder / base.name / "examples"
            seed = 0 if heart else BASE + base.number
            _once(place / "meta.json", partial(write_base, place, size.base_examples, seed, size.heart, base.even))

    def _bases(self, bases: list[Base]) -> None:
        for base in bases:
            place = self.folder / base.name / "untrained"
            _once(place / "model.safetensors", partial(_write_untrained, place, base))
        threads = max(1, self.at_once // len(bases))
        for stage in zip(*(base_commands(self.folder, base, self.size, threads) for base in bases), strict=True):
            self._all([command for commands in stage for command in commands], "base")
        models = {base: exported(self.folder / base.name / "fit") for base in bases}
        self._all(
            [
                eval_command(self.folder, base.name, models[base], kind, self.size)
                for base in bases
                for kind in (*EVALS, "validation")
            ],
            "base, measured",
        )

    def _prepare(self, cell: Cell) -> None:
        """The shards of a condition that chooses pairs otherwise."""
        pairs = cell.condition.pairs
        if pairs in ("close", "far"):
            self._all([all_pairs_command(self.folder, cell)], f"all pairs, {cell.responses}")
            place, most = self.folder / cell.name, self.size.pairs_per_question
            found = self.folder / cell.responses / "all-pairs"
            _once(place / "meta.json", partial(write_by_difference, found, place, most, pairs == "far"))
        if pairs != "all":
            self._all([shards_command(self.folder, cell)], f"shards, {cell.name}")

    def _trained(self, cell: Cell, chosen: dict[str, Setting]) -> dict[str, Setting]:
        """Trains by every method, with the settings that were chosen, or by the whole sweep where none were yet, which fills `chosen`."""
        settings = list(chosen.values()) or sweep(self.size, corners=cell.condition.own_responses)
        self._all([tune_command(self.folder, cell, setting, self.size) for setting in settings], f"training, {cell.name}")
        if not chosen:
            chosen |= self._choose(cell, settings)
        return chosen

    def _choose(self, cell: Cell, settings: list[Setting]) -> dict[str, Setting]:
        """The best setting of each method on the validation problems; of equals the one with the smaller learning rate, then the larger beta."""
        self._all([self._eval(cell, setting, "validation") for setting in settings], f"validation, {cell.name}")
        scores = {setting: _score(self.folder / _home(cell, setting) / "validation/scores.table.json") for setting in settings}
        best = {
            method: max(
                (setting for setting in settings if setting.method == method),
                key=lambda setting: (scores[setting], -setting.rate, setting.beta),
            )
            for method in METHODS
        }
        rows: list[dict[str, object]] = [
            vars(setting) | {"validation": scores[setting], "chosen": setting in best.values()} for setting in settings
        ]
        base = _score(self.folder / cell.base.name / "validation/scores.table.json")
        found = {"cell": cell.name, "base": base, "settings": rows}
        (self.folder / cell.name / "sweep.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return best

    def _measure(self, cell: Cell, settings: list[Setting]) -> None:
        shifts = [shift_command(self.folder, cell, setting, self.size) for setting in settings]
        evals = [self._eval(cell, setting, kind) for setting in settings for kind in EVALS]
        self._all([*shifts, *evals], f"test, {cell.name}")

    def _eval(self, cell: Cell, setting: Setting, kind: str) -> Command:
        home = _home(cell, setting)
        return eval_command(self.folder, home, exported(self.folder / home), kind, self.size)

    def _all(self, commands: list[Command], label: str) -> None:
        started = time.monotonic()
        run_all(self.folder, commands, label, self.at_once)
        seconds = time.monotonic() - started
        if seconds > 1:
            with (self.folder / "stages.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": label, "seconds": round(seconds, 1)}) + "\n")

    def _check_size(self) -> None:
        path = self.folder / "size.json"
        now = json.loads(json.dumps(vars(self.size)))
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != now:
            raise SystemExit(f"{self.folder}: holds a study of another size; choose another --output, or delete the folder")
        path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _write_untrained(place: Path, base: Base) -> None:
    from miniature.base_model import write_untrained

    print(f"{base.name}: {write_untrained(place, base.number):,} parameters")


def _home(cell: Cell, setting: Setting) -> str:
    return f"{cell.name}/tune/{setting.name}"


def _score(table: Path) -> float:
    return float(json.loads(table.read_text(encoding="utf-8"))["score"])


def _once(result: Path, work: Callable[[], None]) -> None:
    """Does what has left no result yet."""
    if not result.exists():
        work()
