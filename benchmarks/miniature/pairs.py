"""Chooses a condition's pairs from all pairs of a cell, in MMPR's form, and measures what pairs are like."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from miniature.files import QUESTIONS, read_json, read_lines, write_lines, write_meta
from miniature.steps import check_steps
from miniature.world import NAMES, Problem, draw_problem

Row = dict[str, Any]


def seed_of_questions(pair_set: int, by_heart: bool) -> int:
    """The seed of the questions of a pair set; a study of problems learned by heart has one for everything."""
    return 0 if by_heart else QUESTIONS + pair_set


def asked(row: Row, seed: int) -> Problem:
    """The problem that a pair is about, which its image names."""
    return draw_problem(seed, int(Path(row["image"]).stem))


def difference(chosen: str, rejected: str) -> float:
    """The share of words that only one of two texts has."""
    first, second = chosen.split(), rejected.split()
    return 1 - 2 * sum(min(first.count(word), second.count(word)) for word in set(first)) / max(
        1, len(first) + len(second)
    )


def by_difference(most: int, far: bool) -> Callable[[list[Row]], list[Row]]:
    """Of each question's pairs, up to half of them, those whose sides differ most, or least; so that both choices are
    about the same questions and of one size.

    Args:
        most: most pairs of a question.
        far: whether to keep those that differ most.
    """

    def choose(rows: list[Row]) -> list[Row]:
        by_picture: dict[str, list[Row]] = {}
        for row in rows:
            by_picture.setdefault(row["image"], []).append(row)
        kept = []
        for of_one in by_picture.values():
            ranked = sorted(of_one, key=lambda row: difference(row["chosen"], row["rejected"]), reverse=far)
            kept += ranked[: min(most, len(of_one) // 2)]
        return kept

    return choose


def by_soundness(seed: int, sound: bool) -> Callable[[list[Row]], list[Row]]:
    """Pairs whose chosen side is right in every step, or those whose chosen side has the right answer and a wrong step.

    Args:
        seed: seed of the questions.
        sound: the first of the two.
    """
    return lambda rows: [row for row in rows if check_steps(row["chosen"], asked(row, seed)).sound is sound]


def write_chosen(places: list[Path], folder: Path, choose: Callable[[list[Row]], list[Row]]) -> None:
    """Writes the pairs that are kept of those in some folders, as one more folder in MMPR's form.

    Args:
        places: folders with meta.json and the images.
        folder: folder for meta.json and the annotation.
        choose: chooses the pairs to keep.
    """
    found = [(place, entry) for place in places for entry in read_json(place / "meta.json").values()]
    kept = choose([row for place, entry in found for row in read_lines(place / entry["annotation"])])
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "pairs.jsonl", kept)
    (root,) = {(place / entry["root"]).resolve() for place, entry in found}
    write_meta(folder, "pairs", len(kept), os.path.relpath(root, folder.resolve()))


def pair_statistics(places: list[Path], seed: int) -> Row:
    """By kind: how many pairs there are, in how many of a hundred words their sides differ, how many sides are right in
    every step, and in how many without the image a colour is named after the cut.

    Args:
        places: folders with pairs in MMPR's form.
        seed: seed of their questions.
    """
    kinds: dict[str, list[Row]] = {}
    for row in _pairs(places):
        kinds.setdefault("dropout_ntp" if row["kind"] == "dropout_ntp" else "correctness", []).append(row)
    found: Row = {}
    for kind, rows in kinds.items():
        found[kind] = {
            "pairs": len(rows),
            "difference": 100 * mean(difference(row["chosen"], row["rejected"]) for row in rows),
        }
        for side in ("chosen", "rejected"):
            found[kind][f"{side}_sound"] = 100 * mean(check_steps(row[side], asked(row, seed)).sound for row in rows)
        if kind == "dropout_ntp":
            ends = [row["chosen"][row["rejected_meta"]["kept_characters"] :] for row in rows]
            found[kind]["seen_after_cut"] = sum(any(name in end for name in NAMES) for end in ends)
    return found


def _pairs(places: list[Path]) -> Iterator[Row]:
    for place in places:
        for entry in read_json(place / "meta.json").values():
            yield from read_lines(place / entry["annotation"])
