"""The loop of the paper from end to end: a base, its responses, pairs, training by every method, evaluation.

A kill costs the command that was running at most, and mostly less: each of them goes on by itself, and one whose result is there is not run again.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from miniature.commands import Command, run_all
from miniature.files import BASE, QUESTIONS, TEST, VALIDATION, write_base, write_problems, write_questions
from miniature.results import collect
from miniature.study import (
    METHODS,
    REDUCED,
    Setting,
    Size,
    base_commands,
    build_command,
    eval_command,
    exported,
    shift_command,
    sweep,
    test_pairs_command,
    tune_command,
)

BASE_EVALS = ("greedy", "sampled", "direct")


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
        "--reduced",
        action="store_true",
        help="all learned by heart in about two minutes: tries the machinery, its numbers mean nothing",
    )
    parser.add_argument("--at-once", type=int, default=2, help="commands at a time, one core each (default 2)")
    options = parser.parse_args()
    size = REDUCED if options.reduced else Size()
    study = Study(options.output, size, options.at_once)
    study.run([(base, variant) for base in range(options.bases) for variant in range(options.pair_sets)])


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

    def run(self, cells: list[tuple[int, int]]) -> None:
        """All cells: (base, pair set)."""
        bases = sorted({base for base, _ in cells})
        self._world(bases, sorted({variant for _, variant in cells}))
        self._bases(bases)
        builds = [test_pairs_command(self.folder, base, self.size) for base in bases]
        self._all([*builds, *(build_command(self.folder, base, variant, self.size) for base, variant in cells)], "pairs")
        chosen: dict[str, Setting] | None = None
        for base, variant in cells:
            # Settings are chosen once, on the validation problems of the first cell.
            settings = sweep(self.size) if chosen is None else list(chosen.values())
            self._all(
                [tune_command(self.folder, base, variant, setting, self.size) for setting in settings],
                f"training, base {base}, pairs {variant}",
            )
            if chosen is None:
                chosen = self._choose(base, variant, settings)
            self._measure(base, variant, list(chosen.values()))
            collect(self.folder, self.size, cells, chosen)

    def _world(self, bases: list[int], variants: list[int]) -> None:
        size, world, heart = self.size, self.folder / "world", self.size.heart is not None
        for name, count, seed in (("test", size.test, TEST), ("validation", size.validation, VALIDATION)):
            _once(world / name / "problems.jsonl", partial(write_problems, world / name, count, 0 if heart else seed))
        for variant in variants:
            place = world / f"questions-{variant}"
            _once(place / "meta.json", partial(write_questions, place, size.questions, 0 if heart else QUESTIONS + variant))
        for base in bases:
            place = self.folder / f"base-{base}" / "examples"
            _once(place / "meta.json", partial(write_base, place, size.base_examples, 0 if heart else BASE + base, size.heart))

    def _bases(self, bases: list[int]) -> None:
        from miniature.base_model import write_untrained

        for base in bases:
            _once(self.folder / f"base-{base}/untrained/model.safetensors", lambda base=base: print(
                f"base {base}: {write_untrained(self.folder / f'base-{base}/untrained', base):,} parameters"))  # fmt: skip
        threads = max(1, self.at_once // len(bases))
        for stage in zip(*(base_commands(self.folder, base, self.size, threads) for base in bases), strict=True):
            self._all([command for commands in stage for command in commands], "base")
        self._all(
            [
                eval_command(self.folder, f"base-{base}", exported(self.folder / f"base-{base}/fit"), kind, self.size)
                for base in bases
                for kind in BASE_EVALS
            ],
            "base, measured",
        )

    def _choose(self, base: int, variant: int, settings: list[Setting]) -> dict[str, Setting]:
        """The best setting of each method on the validation problems; of equals the one with the smaller learning rate, then the larger beta."""
        self._all([self._eval(base, variant, setting, "validation") for setting in settings], "validation")
        scores = {
            setting: _score(self.folder / _home(base, variant, setting) / "validation/scores.table.json") for setting in settings
        }
        best = {
            method: max(
                (setting for setting in settings if setting.method == method),
                key=lambda setting: (scores[setting], -setting.rate, setting.beta),
            )
            for method in METHODS
        }
        rows = [vars(setting) | {"validation": scores[setting], "chosen": setting in best.values()} for setting in settings]
        (self.folder / "sweep.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return best

    def _measure(self, base: int, variant: int, settings: list[Setting]) -> None:
        shifts = [shift_command(self.folder, base, variant, setting, self.size) for setting in settings]
        evals = [self._eval(base, variant, setting, kind) for setting in settings for kind in BASE_EVALS]
        self._all([*shifts, *evals], f"test, base {base}, pairs {variant}")

    def _eval(self, base: int, variant: int, setting: Setting, kind: str) -> Command:
        home = _home(base, variant, setting)
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


def _home(base: int, variant: int, setting: Setting) -> str:
    return f"cell-{base}-{variant}/tune/{setting.name}"


def _score(table: Path) -> float:
    return float(json.loads(table.read_text(encoding="utf-8"))["score"])


def _once(result: Path, work: Callable[[], None]) -> None:
    """Does what has left no result yet."""
    if not result.exists():
        work()
