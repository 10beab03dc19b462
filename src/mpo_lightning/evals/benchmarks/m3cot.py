"""M3CoT: multi-domain, multi-step, multiple-choice problems; accuracy by topic and domain.

Source of the official rule: LightChen233/M3CoT utils/metric.py; of the prompt: InternVL internvl_chat/eval/scienceqa.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, accuracies, verdict_score
from mpo_lightning.evals.benchmarks.prompts import LETTER, lettered, with_reasoning
from mpo_lightning.evals.files import find_file, read_rows

WHERE = "https://huggingface.co/datasets/LightChen2333/M3CoT (test.jsonl and images/)"
LETTERS = "ABCDEF"


class M3CoTRow(TypedDict, total=False):
    """A problem; `answer` is a letter, or an option's number."""

    id: str
    question: str
    context: str | None
    hint: str | None
    choices: Required[list[str]]
    answer: Required[str | int]
    domain: str
    topic: str


def load(folder: Path) -> list[M3CoTRow]:
    """Reads the problems of test.jsonl, in the data set's own form or ScienceQA's (an answer by number, a hint)."""
    rows = read_rows(find_file(folder, ("test.jsonl", "data/test.jsonl", "m3cot_test.jsonl"), WHERE))
    return [
        row | {"answer": gold_letter(row), "id": row.get("id", row.get("image", number))}
        for number, row in enumerate(rows)
    ]


def gold_letter(row: M3CoTRow) -> str:
    """Returns the letter of the right option, which a row gives as a letter or a number."""
    answer = row["answer"]
    return LETTERS[answer] if isinstance(answer, int) else str(answer).strip("() ").upper()


def question(row: M3CoTRow, cot: bool) -> str:
    """Returns the prompt with context, question and options: for the letter, or (`cot`) for reasoning first."""
    context = row.get("context") or row.get("hint")
    text = "\n".join([*([context] if context else []), row["question"], lettered(row["choices"])])
    return with_reasoning(text) if cot else f"{text}\n{LETTER}"


def score(row: M3CoTRow, response: str, mode: Mode) -> Score:
    """Scores one response."""
    gold = gold_letter(row)
    if mode == "official":
        letter = official_letter(response, row["choices"])
        return verdict_score(Verdict(letter == gold, letter or "", letter, "official", confidence=1.0))
    return verdict_score(check(response, Question(Kind.CHOICE, gold, tuple(map(str, row["choices"])))))


def official_letter(response: str, choices: Sequence[str]) -> str | None:
    """Returns the letter that the benchmark's script reads: the last in brackets, else that of the last option whose
    text occurs, else one that stands alone.
    """
    if "[Answer]" in response:
        response = response.split("[Answer]")[-1].split("[Rationale]")[0].split("[Context]")[0]
    bracketed = re.findall(r"\(([A-Za-z])\)", response)
    if bracketed:
        return str(bracketed[-1]).upper()
    lettered_choices = list(zip(LETTERS, choices, strict=False))
    contained = [letter for letter, choice in lettered_choices if str(choice).lower() in response.lower()]
    words = re.sub(r"[\n.,!?]", " ", response).split(" ")
    upper = [letter for letter, _ in lettered_choices if letter in words]
    lower = [letter for letter, _ in lettered_choices if letter.lower() in words]
    return next((found[-1] for found in (contained, upper, lower) if found), None)


def table(rows: Sequence[M3CoTRow], values: Any) -> Table:
    """Makes the table: accuracy of all, by domain and by topic."""

    return accuracies(
        rows,
        values,
        "accuracy",
        {
            "domain": lambda row: [row["domain"]] if row.get("domain") else [],
            "topic": lambda row: [row["topic"]] if row.get("topic") else [],
        },
    )


def problem(row: M3CoTRow) -> str | None:
    """Returns what is wrong with a row, or None."""
    if not isinstance(row["choices"], list) or not 1 < len(row["choices"]) <= len(LETTERS):
        return f"choices is not a list of 2 to {len(LETTERS)}"
    answer = row["answer"]
    if isinstance(answer, int):
        return None if 0 <= answer < len(row["choices"]) else f"answer {answer} names no option"
    return None if gold_letter(row) in tuple(LETTERS[: len(row["choices"])]) else f"answer {answer!r} names no option"


BENCHMARK = Benchmark(
    name="m3cot",
    title="M3CoT",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(100, 4096),
    where=WHERE,
    needed=("answer", "choices"),
    problem=problem,
)
