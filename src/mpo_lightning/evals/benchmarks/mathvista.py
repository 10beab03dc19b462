"""MathVista (testmini 1,000): accuracy of 540 multiple-choice and 460 free-form problems, with nine breakdowns.

Officially a language model extracts a short answer, rules convert it to the answer's type, and equality decides. The
`official` mode takes a row's own `extraction`, or asks a language model if one is given. Otherwise it does what the
paper's evaluation did for chain-of-thought responses: it takes the text after the first "Final answer:" or "Answer:",
or the whole response. An extraction that is neither letter nor option becomes the nearest option by edit distance, as
in the original.

Integers are normalised as in the published files of 2023, by strict `int`; the script of 2025 reads "5.0" and "0.75" as
5 and 0 (a row's `normaliser`).

Source: lupantech/MathVista evaluation/{build_query,extract_answer,calculate_score}.py; InternVL
internvl_chat/eval/mathvista.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict, cast

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, accuracies, verdict_score
from mpo_lightning.evals.benchmarks.prompts import lettered, with_reasoning
from mpo_lightning.evals.files import find_file, read_rows
from mpo_lightning.evals.rules.mathvista_extraction import EXTRACTOR

WHERE = (
    "https://huggingface.co/datasets/AI4Math/MathVista or https://github.com/lupantech/MathVista "
    "(data/testmini.json and images/)"
)
BREAKDOWNS = ("question_type", "answer_type", "language", "source", "category", "task", "context", "grade", "skills")
KINDS = {"text": Kind.CHOICE, "integer": Kind.INTEGER, "float": Kind.FLOAT, "list": Kind.LIST}
HINTS = {
    ("text", None): "provide the correct option letter, e.g., A, B, C, D, at the end.",
    ("integer", None): "requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end.",
    (
        "float",
        1,
    ): (
        "requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4, "
        "at the end."
    ),
    (
        "float",
        2,
    ): (
        "requiring a floating-point number with two decimal places and provide the final value, e.g., 1.23, 1.34, "
        "1.45, at the end."
    ),
    (
        "list",
        None,
    ): "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}
FINAL = re.compile(r"(?:Final answer:|Answer:)\s*(.*)", re.IGNORECASE)


class MathVistaRow(TypedDict, total=False):
    """A problem, and what a file of responses adds to it."""

    pid: str
    question: str
    query: str
    choices: list[str] | None
    unit: str | None
    precision: float | str | None
    answer: Required[Any]
    question_type: Required[str]
    answer_type: Required[str]
    metadata: dict[str, Any]
    extraction: str | None
    official_extraction: str | None
    normaliser: str


def load(folder: Path) -> list[MathVistaRow]:
    """Reads the problems of testmini.json (an object by pid) or of JSON lines."""
    rows = read_rows(find_file(folder, ("testmini.json", "data/testmini.json", "testmini.jsonl", "test.json"), WHERE))
    return [
        {"pid": row.get("pid", row.get("key"))}
        | {name: value for name, value in row.items() if name != "key"}
        | row.get("metadata", {})
        for row in rows
    ]


def question(row: MathVistaRow, cot: bool) -> str:
    """Returns the data set's query, or one built by the same rules; `cot` asks for reasoning around it."""
    query = row.get("query") or _query(row)
    return with_reasoning(query) if cot else query


def _query(row: MathVistaRow) -> str:
    precision = _precision(row) if row["answer_type"] == "float" else None
    what = HINTS[(row["answer_type"] if not row.get("choices") else "text", precision)]
    choices = row.get("choices")
    hint = f"Hint: Please answer the question {'and ' if choices else ''}{what}"
    unit = f" (Unit: {row['unit']})" if row.get("unit") else ""
    options = ["Choices:", lettered(choices, "({letter}) {text}")] if choices else []
    return "\n".join([hint, f"Question: {row['question']}{unit}", *options])


def _precision(row: MathVistaRow) -> int | None:
    precision = row.get("precision")
    return None if precision is None or precision == "" else int(float(precision))


def score(row: MathVistaRow, response: str, mode: Mode) -> Score:
    """Scores one response."""
    if mode == "robust":
        choices = tuple(map(str, row.get("choices") or ()))
        kind = Kind.CHOICE if choices else KINDS[row["answer_type"]]
        return verdict_score(check(response, Question(kind, str(row["answer"]), choices, _precision(row))))
    extraction, rule = official_extraction(row, response)
    normaliser = str(row.get("normaliser", "2023"))
    prediction = official_prediction(row, extraction, normaliser)
    return verdict_score(
        Verdict(prediction == str(row["answer"]), extraction, prediction, f"{rule}/{normaliser}", confidence=1.0)
    )


def official_extraction(row: MathVistaRow, response: str) -> tuple[str, str]:
    """Returns the extraction and the rule that gave it: the row's own, or the first rule that applies."""
    for name in ("extraction", "official_extraction"):
        if row.get(name) is not None:
            return str(row[name]), "given extraction"
    if not response:
        return "", "empty"
    if response in (row.get("choices") or ()):
        return response, "a choice"
    if row["answer_type"] in ("integer", "float") and _number(response, row["answer_type"]) is not None:
        return str(_number(response, row["answer_type"])), "a number"
    found = FINAL.search(response)
    return (found[1].strip(), "first trigger") if found else (response, "whole response")


def _number(text: str, kind: str) -> int | float | None:
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError:
        return None


def official_prediction(row: MathVistaRow, extraction: str, normaliser: str) -> str | None:
    """Converts an extraction to the answer's type, as the benchmark's script writes it; None if it cannot."""
    choices = row.get("choices")
    if choices:
        extraction = extraction.strip()
        bracketed = re.findall(r"\(([a-zA-Z])\)", extraction)
        letter = bracketed[0].upper() if bracketed else extraction
        letters = [chr(ord("A") + place) for place in range(len(choices))]
        if letter in letters:
            return str(choices[letters.index(letter)])
        return str(min(choices, key=lambda choice: edit_distance(letter, choice)))
    try:
        if row["answer_type"] == "integer":
            return str(int(extraction)) if normaliser == "2023" else str(int(float(extraction)))
        if row["answer_type"] == "float":
            return str(round(float(extraction), _precision(row) or 0))
    except (ValueError, OverflowError):
        return None
    return extraction


def edit_distance(one: str, other: str) -> int:
    """Returns the Levenshtein distance between the first 2,000 characters of two texts.

    Own code, because torchmetrics' prunes its search and can be off by one for texts of very different lengths.
    """
    one, other = one[:2000], other[:2000]
    before = list(range(len(other) + 1))
    for place, mark in enumerate(one, start=1):
        row = [place]
        for column, counterpart in enumerate(other, start=1):
            row.append(min(before[column] + 1, row[-1] + 1, before[column - 1] + (mark != counterpart)))
        before = row
    return before[-1]


def table(rows: Sequence[MathVistaRow], values: Any) -> Table:
    """Makes the table: accuracy of all and by every breakdown of the rows; a problem counts in each of its skills."""

    def parts(name: str) -> Any:
        return lambda row: (
            row[name] if isinstance(row.get(name), list) else [row[name]] if row.get(name) is not None else []
        )

    return accuracies(
        rows, values, "accuracy", {name: parts(name) for name in BREAKDOWNS if any(name in row for row in rows)}
    )


def flat(row: MathVistaRow) -> MathVistaRow:
    """Moves the fields of `metadata`, which the breakdowns need, beside the others."""
    metadata = row.get("metadata")
    return cast(MathVistaRow, metadata | row) if isinstance(metadata, dict) else row


def problem(row: MathVistaRow) -> str | None:
    """Returns what is wrong with a row, or None."""
    if row["answer_type"] not in KINDS:
        return f"answer_type is {row['answer_type']!r}, not one of {', '.join(KINDS)}"
    if row.get("choices") is not None and not isinstance(row["choices"], list):
        return "choices is not a list"
    choices = row.get("choices") or []
    if row["question_type"] == "multi_choice" and not choices:
        return "question_type is 'multi_choice', but it has no choices"
    if choices and str(row["answer"]) not in [str(choice) for choice in choices]:
        return f"answer {str(row['answer'])[:80]!r} is none of its choices"
    if row.get("precision") not in (None, "", 0, 1, 2, 3, 4, "0", "1", "2", "3", "4", "1.0", "2.0"):
        return f"precision is {row['precision']!r}, not a number of decimals"
    return None


BENCHMARK = Benchmark(
    name="mathvista",
    title="MathVista",
    id_field="pid",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(4096, 4096),
    where=WHERE,
    needed=("answer", "question_type", "answer_type"),
    extractor=EXTRACTOR,
    problem=problem,
    named=flat,
    variants=("2023", "2025"),
)
