"""The loop of the paper from end to end: a base, its responses, pairs, training by every method, evaluation.

A kill costs at most the command that was running: each command resumes by itself, and a command whose result exists is
not run again.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from miniature.cells import Base, Cell
from miniature.commands import Command, done, run_all
from miniature.files import BASE, TEST, VALIDATION, read_json, write_base, write_problems, write_questions, write_whole
from miniature.pairs import by_difference, by_soundness, seed_of_questions, write_chosen
from miniature.results import collect
from miniature.settings import best_of, beyond, choose, chosen_settings
from miniature.study import (
    Setting,
    Size,
    all_pairs_command,
    base_command,
    base_shards_command,
    build_command,
    cell_commands,
    eval_command,
    exported,
    held_out_command,
    pair_folders,
    shards_command,
    sweep,
    tune_command,
    validation_command,
)


class Study:
    """A study in a folder.

    Args:
        folder: folder of the study.
        size: size of the study.
        at_once: number of commands at a time.

    Raises:
        SystemExit: the folder holds a study of another size, or is not a folder.
    """

    def __init__(self, folder: Path, size: Size, at_once: int) -> None:
        self.folder, self.size, self.at_once = folder, size, at_once
        if folder.exists() and not folder.is_dir():
            raise SystemExit(f"--output {folder}: is a file; name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._check_size()

    def run(self, cells: list[Cell], conditions: list[Cell]) -> None:
        """All cells, and those of other conditions after them."""
        bases = list(dict.fromkeys(cell.base for cell in [*cells, *conditions]))
        self._world(bases, sorted({cell.pair_set for cell in [*cells, *conditions]}))
        self._bases(bases)
        pairs = list({cell.responses: cell for cell in [*cells, *conditions]}.values())
        builds = [held_out_command(self.folder, base, self.size) for base in dict.fromkeys(cell.base for cell in cells)]
        self._all([*builds, *(build_command(self.folder, cell, self.size) for cell in pairs)], "pairs")
        collected = False
        for cell in [*cells, *conditions]:
            self._prepare(cell)
            self._train(cell)
            commands = cell_commands(self.folder, cell, chosen_settings(self.folder, cell), self.size)
            collected = self._all(commands, f"test, {cell.name}")
            if collected:
                collect(self.folder, self.size)
        if not collected:  # a kill may have come in between
            collect(self.folder, self.size)

    def _world(self, bases: list[Base], variants: list[int]) -> None:
        size, world, heart = self.size, self.folder / "world", self.size.heart is not None
        for name, count, seed in (("test", size.test, TEST), ("validation", size.validation, VALIDATION)):
            _once(world / name / "problems.jsonl", partial(write_problems, world / name, count, 0 if heart else seed))
        for variant in variants:
            place = world / f"questions-{variant}"
            _once(
                place / "meta.json", partial(write_questions, place, size.questions, seed_of_questions(variant, heart))
            )
        for base in bases:
            place = self.folder / base.name / "examples"
            seed = 0 if heart else BASE + base.number
            _once(place / "meta.json", partial(write_base, place, size.base_examples, seed, size.heart, base.even))

    def _bases(self, bases: list[Base]) -> None:
        for base in bases:
            place = self.folder / base.name / "untrained"
            _once(place, partial(_write_untrained, place, base))
        self._all([base_shards_command(self.folder, base) for base in bases], "examples")
        # One after the other: each has all threads.
        self._all([base_command(self.folder, base, self.size) for base in bases], "base", at_once=1)
        models = {base: exported(self.folder / base.name / "fit") for base in bases}
        self._all(
            [
                eval_command(self.folder, base.name, models[base], kind, self.size)
                for base in bases
                for kind in ("greedy", "sampled", "direct", "validation")
            ],
            "base, measured",
        )

    def _prepare(self, cell: Cell) -> None:
        """The shards of a condition that chooses pairs otherwise."""
        pairs, place = cell.condition.pairs, self.folder / cell.name
        if pairs in ("close", "far"):
            self._all([all_pairs_command(self.folder, cell)], f"all pairs, {cell.responses}")
            found = [self.folder / cell.responses / "all-pairs"]
            kept = by_difference(self.size.pairs_per_question, pairs == "far")
            _once(place / "meta.json", partial(write_chosen, found, place, kept))
        elif pairs in ("sound", "lucky"):
            found = pair_folders(self.folder, Cell(cell.base, cell.pair_set))
            kept = by_soundness(seed_of_questions(cell.pair_set, self.size.heart is not None), pairs == "sound")
            _once(place / "meta.json", partial(write_chosen, found, place, kept))
        if pairs != "all":
            self._all([shards_command(self.folder, cell)], f"shards, {cell.name}")

    def _train(self, cell: Cell) -> None:
        """Trains by every method, with the settings that were chosen, or by the whole sweep where none were yet, which
        are chosen then.
        """
        if chosen := chosen_settings(self.folder, cell):
            self._train_by(cell, list(chosen.values()))
            return
        tried: list[Setting] = []
        more = sweep(self.size, part=cell.condition.own_responses)
        for _ in range(1 + self.size.beyond):
            if not more:
                break
            self._train_by(cell, more)
            scored = [validation_command(self.folder, cell, setting, self.size) for setting in more]
            self._all(scored, f"validation, {cell.name}")
            tried += more
            more = beyond(tried, best_of(self.folder, cell, tried))
        choose(self.folder, cell, tried)

    def _train_by(self, cell: Cell, settings: list[Setting]) -> None:
        self._all(
            [tune_command(self.folder, cell, setting, self.size) for setting in settings], f"training, {cell.name}"
        )

    def _all(self, commands: list[Command], label: str, at_once: int | None = None) -> bool:
        """Runs commands and notes how long that took; returns whether there was anything to run."""
        waiting = not all(done(self.folder, command) for command in commands)
        started = time.monotonic()
        try:
            run_all(self.folder, commands, label, at_once or self.at_once)
        finally:
            if waiting:
                with (self.folder / "stages.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"stage": label, "seconds": round(time.monotonic() - started, 1)}) + "\n")
        return waiting

    def _check_size(self) -> None:
        path = self.folder / "size.json"
        now = json.loads(json.dumps(vars(self.size)))
        if not path.is_file():
            write_whole(path, json.dumps(now, indent=1) + "\n")
        elif read_json(path) != now:
            raise SystemExit(
                f"{self.folder}: holds a study of another size; choose another --output, or delete the folder"
            )


def _write_untrained(place: Path, base: Base) -> None:
    from miniature.base_model import write_untrained

    partial_place = place.with_name(f"{place.name}.partial")
    print(f"{base.name}: {write_untrained(partial_place, base.number):,} parameters")
    partial_place.rename(place)


def _once(result: Path, work: Callable[[], None]) -> None:
    """Does the work whose result does not exist yet."""
    if not result.exists():
        work()
