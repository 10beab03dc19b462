"""The world as files: examples for a base model in MMPR's form, questions for `mpo prefs build` as MMPR's prompts,
problems for `mpo eval run`.

Splits are seeds of their own: no image of one is in another. Pairs of numbers are: there are some 12,000 of them with
what is asked, and a base learns from 18,000 examples. Every file is complete or absent.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miniature.chains import solution
from miniature.world import Problem, draw_picture, draw_problem
from mpo_lightning.evals.benchmarks.prompts import WORD, with_reasoning

BASE, TEST, VALIDATION, QUESTIONS = 1_000, 2_000, 3_000, 4_000
"""Seeds of the splits; variants (another base, another set of questions) count on from them."""

DIRECT = 0.2
"""Share of a base's examples that are answers without reasoning."""


def write_base(folder: Path, examples: int, seed: int, distinct: int | None = None, even: bool = False) -> None:
    """Solutions to learn from, and some direct answers.

    The rejected side is required, and costs little: supervised training gives it weight 0.

    Args:
        folder: folder for meta.json, the annotation and the images.
        examples: number of examples.
        seed: seed of problems and solutions.
        distinct: number of problems that they are about; None is one each.
        even: whether every way of working is taught equally often.
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
    write_lines(folder / "base.jsonl", rows)
    write_meta(folder, "base", examples)


def write_questions(folder: Path, questions: int, seed: int) -> None:
    """Questions with their answers and nothing more, for `mpo prefs build`."""
    rows = [
        {"image": _name(problem), "question": problem.question, "answer": str(problem.answer)}
        for problem in _pictured(folder, seed, questions)
    ]
    write_lines(folder / "questions.jsonl", rows)
    write_meta(folder, "questions", questions)


def write_problems(folder: Path, problems: int, seed: int) -> None:
    """Problems with their answers for `mpo eval run --benchmark questions`, by operation; the seed stands in each, for
    checking steps.
    """
    names = {"+": "addition", "-": "subtraction"}
    rows = [
        {
            "id": problem.number,
            "world_seed": seed,
            "image": _name(problem),
            "question": problem.question,
            "answer": str(problem.answer),
            "category": names[problem.operation],
        }
        for problem in _pictured(folder, seed, problems)
    ]
    write_lines(folder / "problems.jsonl", rows)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_json(path: Path) -> Any:
    """A file's content.

    Raises:
        SystemExit: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path}: cannot be read ({error}); delete it, and the next start makes it again") from None


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a kill leaves the one before or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_meta(folder: Path, name: str, length: int, root: str = ".") -> None:
    """Writes the meta.json of a folder with one annotation, written last: what it names is complete."""
    entry = {
        "root": root,
        "annotation": f"{name}.jsonl",
        "data_augment": False,
        "repeat_time": 1,
        "length": length,
        "max_dynamic_patch": 1,
    }
    write_whole(folder / "meta.json", json.dumps({name: entry}, indent=1) + "\n")


def _pictured(folder: Path, seed: int, count: int) -> list[Problem]:
    """Writes the images of a seed's problems and returns the problems."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    problems = [draw_problem(seed, number) for number in range(count)]
    for problem in problems:
        (folder / _name(problem)).write_bytes(draw_picture(problem, seed))
    return problems


def _name(problem: Problem) -> str:
    return f"images/{problem.number:06d}.jpg"
