"""The world as files: examples for a base model in MMPR's form, questions for `mpo prefs build` as MMPR's prompts, problems for `mpo eval run`.

Splits are seeds of their own: no picture of one is in another, and no problem but by chance.
"""

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniature.chains import solution
from miniature.world import Problem, draw_picture, draw_problem
from mpo_lightning.evals.prompts import WORD, with_reasoning

BASE, TEST, VALIDATION, QUESTIONS = 1_000, 2_000, 3_000, 4_000
"""Seeds of the splits; variants (another base, another set of questions) count on from them."""

DIRECT = 0.2
"""Share of a base's examples that are answers without reasoning."""


def write_base(folder: Path, examples: int, seed: int, distinct: int | None = None, even: bool = False) -> None:
    """Solutions to learn from, and some direct answers.

    The rejected side has to be there, and costs little: the weights 0/0/1 of supervised training give it none.

    Args:
        folder: for meta.json, the annotation and the pictures.
        examples: how many.
        seed: of problems and solutions.
        distinct: problems that they are about; None is one each.
        even: every way of working is taught equally often.
    """
    rng = random.Random(seed)
    problems = _pictured(folder, seed, distinct or examples)
    rows = []
    for number in range(examples):
        problem = problems[number % len(problems)]
        asked_directly = rng.random() < DIRECT
        question = f"{problem.question}\n{WORD}" if asked_directly else with_reasoning(problem.question)
        answer = str(problem.answer) if asked_directly else solution(problem, rng, even)
        rows.append({"image": _name(problem), "question": question, "chosen": answer, "rejected": "?"})
    _lines(folder / "base.jsonl", rows)
    _meta(folder, "base", examples)


def write_questions(folder: Path, questions: int, seed: int) -> None:
    """Questions with their answers and nothing more, for `mpo prefs build`."""
    rows = [
        {"image": _name(problem), "question": problem.question, "answer": str(problem.answer)}
        for problem in _pictured(folder, seed, questions)
    ]
    _lines(folder / "questions.jsonl", rows)
    _meta(folder, "questions", questions)


def write_problems(folder: Path, problems: int, seed: int) -> None:
    """Problems with their answers for `mpo eval run --benchmark questions`, by operation; the seed stands in each, for checking steps."""
    names = {"+": "addition", "-": "subtraction"}
    rows = [
        {"id": problem.number, "world_seed": seed, "image": _name(problem), "question": problem.question, "answer": str(problem.answer), "category": names[problem.operation]}
        for problem in _pictured(folder, seed, problems)
    ]  # fmt: skip
    _lines(folder / "problems.jsonl", rows)


def write_by_difference(found: Path, folder: Path, most: int, far: bool) -> None:
    """Of each question's pairs, up to half of them, those whose sides differ most, or least; so that both choices are about the same questions and of one size.

    Args:
        found: pairs in MMPR's form, with pictures of one place.
        folder: for meta.json and the annotation.
        most: pairs of a question.
        far: those that differ most.
    """
    entries = json.loads((found / "meta.json").read_text(encoding="utf-8")).values()
    by_picture: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        for row in read_lines(found / entry["annotation"]):
            by_picture.setdefault(row["image"], []).append(row)
    kept = []
    for rows in by_picture.values():
        ranked = sorted(rows, key=lambda row: difference(row["chosen"], row["rejected"]), reverse=far)
        kept += ranked[: min(most, len(rows) // 2)]
    folder.mkdir(parents=True, exist_ok=True)
    _lines(folder / "pairs.jsonl", kept)
    (root,) = {(found / entry["root"]).resolve() for entry in entries}
    _meta(folder, "pairs", len(kept), os.path.relpath(root, folder.resolve()))


def difference(chosen: str, rejected: str) -> float:
    """The share of words that only one of two texts has."""
    first, second = chosen.split(), rejected.split()
    return 1 - 2 * sum(min(first.count(word), second.count(word)) for word in set(first)) / max(1, len(first) + len(second))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _pictured(folder: Path, seed: int, count: int) -> list[Problem]:
    """Problems of a seed, their pictures written."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    problems = [draw_problem(seed, number) for number in range(count)]
    for problem in problems:
        (folder / _name(problem)).write_bytes(draw_picture(problem, seed))
    return problems


def _name(problem: Problem) -> str:
    return f"images/{problem.number:06d}.jpg"


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _meta(folder: Path, name: str, length: int, root: str = ".") -> None:
    entry = {
        "root": root, "annotation": f"{name}.jsonl", "data_augment": False, "repeat_time": 1, "length": length, "max_dynamic_patch": 1,
    }  # fmt: skip
    partial = folder / "meta.json.partial"
    partial.write_text(json.dumps({name: entry}, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "meta.json")
