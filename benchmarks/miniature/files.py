"""The world as files: examples for a base model in MMPR's form, questions for `mpo prefs build` as MMPR's prompts, problems for `mpo eval run`.

Splits are seeds of their own: no problem of one is drawn for another but by chance, and its picture never.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniature.chains import solution
from miniature.world import Problem, draw_picture, draw_problem
from mpo_lightning.evals.prompts import WORD, with_reasoning

SEEDS = {"base": 1_000, "test": 2_000, "validation": 3_000, "questions": 4_000}
"""Of each split; variants (another base, another set of questions) count on from it."""


def write_base(folder: Path, examples: int, variant: int, seed: int | None = None, direct: float = 0.2) -> None:
    """Solutions to learn from, one of each problem; a share of them direct answers.

    The rejected side has to be there, and costs little: the weights 0/0/1 of supervised training give it none.

    Args:
        folder: for meta.json, the annotation and the pictures.
        examples: how many.
        variant: of the split.
        seed: of the problems, in place of the split's own.
        direct: share of direct answers.
    """
    seed = SEEDS["base"] + variant if seed is None else seed
    rng = random.Random(seed)
    rows = []
    for problem in _pictured(folder, seed, examples):
        asked_directly = rng.random() < direct
        question = f"{problem.question}\n{WORD}" if asked_directly else with_reasoning(problem.question)
        answer = str(problem.answer) if asked_directly else solution(problem, rng)
        rows.append({"image": _name(problem), "question": question, "chosen": answer, "rejected": "?"})
    _lines(folder / "base.jsonl", rows)
    _meta(folder, {"base": examples})


def write_questions(folder: Path, verified: int, unverified: int, variant: int, seed: int | None = None) -> None:
    """Fresh questions: some with their answers and nothing more, some without, which are only good for DropoutNTP.

    Args:
        folder: for meta.json, annotations and pictures.
        verified: questions with answers.
        unverified: questions without.
        variant: of the split.
        seed: of the problems, in place of the split's own.
    """
    rows = [
        {"image": _name(problem), "question": problem.question, "answer": str(problem.answer)}
        for problem in _pictured(folder, SEEDS["questions"] + variant if seed is None else seed, verified + unverified)
    ]
    _lines(folder / "answered.jsonl", rows[:verified])
    _lines(
        folder / "unanswered.jsonl",
        ({"image": row["image"], "question": with_reasoning(row["question"])} for row in rows[verified:]),
    )
    _meta(folder, {"answered": verified, "unanswered": unverified})


def write_problems(folder: Path, split: str, problems: int, seed: int | None = None) -> None:
    """Problems with their answers for `mpo eval run --benchmark questions`, by operation.

    Args:
        folder: for problems.jsonl and the pictures.
        split: "test" or "validation".
        problems: how many.
        seed: of the problems, in place of the split's own.
    """
    world_seed = SEEDS[split] if seed is None else seed
    names = {"+": "addition", "-": "subtraction"}
    rows = [
        {"id": problem.number, "world_seed": world_seed, "image": _name(problem), "question": problem.question, "answer": str(problem.answer), "category": names[problem.operation]}
        for problem in _pictured(folder, world_seed, problems)
    ]  # fmt: skip
    _lines(folder / "problems.jsonl", rows)


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


def _meta(folder: Path, lengths: dict[str, int]) -> None:
    meta = {
        name: {"root": ".", "annotation": f"{name}.jsonl", "data_augment": False, "repeat_time": 1, "length": length, "max_dynamic_patch": 1}
        for name, length in lengths.items()
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
