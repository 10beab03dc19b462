"""POPE: yes-or-no questions about objects in images, in three splits (random, popular, adversarial).

Two numbers are called "the POPE F1": the mean of the three splits' F1 (InternVL, the paper: `mean F1`, the headline)
and the F1 of all answers pooled (VLMEvalKit: `pooled F1`). "Yes" is the positive class. In official mode an answer with
"no" or "not" in its first sentence is no; any other is yes, even an empty one. In robust mode an answer that says
neither is undecided and counts as wrong.

Source: RUCAIBox/POPE evaluate.py; InternVL internvl_chat/eval/pope.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import Verdict
from mpo_lightning.answers.confidence import confidence_of
from mpo_lightning.answers.response.extract import announced, clean, is_refusal, sentences
from mpo_lightning.answers.response.prose import choice_of_prose
from mpo_lightning.answers.response.yes_no import UNSEEN, YES
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, TableRow
from mpo_lightning.evals.benchmarks.mathvista import FINAL
from mpo_lightning.evals.benchmarks.prompts import WORD, with_reasoning
from mpo_lightning.evals.files import find_file, read_rows

WHERE = (
    "https://github.com/RUCAIBox/POPE (output/coco/coco_pope_{random,popular,adversarial}.json) and COCO val2014 images"
)
ASKED = re.compile(r"\b(?:is|are)\s+there\s+(?:an?\s+|any\s+)?([a-z][a-z ]{1,30}?)\s+in\s+the\b", re.IGNORECASE)
LACKING = re.compile(r",?\s+(?:without|but\s+no|and\s+no|with\s+no)\b.*$", re.IGNORECASE | re.DOTALL)
"""Matches the end of a sentence that names missing things."""
SPLITS = ("random", "popular", "adversarial")


class POPERow(TypedDict, total=False):
    """A question; files have it as `text` or as `question`."""

    id: str
    question_id: int | None
    category: str | None
    text: str
    question: str
    label: Required[str]


def load(folder: Path) -> list[POPERow]:
    """Reads the questions of the three coco_pope_SPLIT.json, or of one file with a field `category`."""
    if folder.is_file():
        return [_named(row) for row in read_rows(folder)]
    files = [
        path
        for split in SPLITS
        for name in (f"coco_pope_{split}.json", f"coco/coco_pope_{split}.json")
        if (path := folder / name).is_file()
    ]
    if not files:
        files = [find_file(folder, ("pope.jsonl", "llava_pope_test.jsonl"), WHERE)]
    rows = [
        {"category": path.stem.rpartition("_")[2] if len(files) > 1 else None} | row
        for path in files
        for row in read_rows(path)
    ]
    return [_named(row) for row in rows]


def _named(row: POPERow) -> POPERow:
    """Adds an id to a row, since question numbers repeat in each split."""
    if row.get("question_id") is None:
        return row
    category = row.get("category") or "all"
    return row | {"category": category, "id": f"{category}/{row.get('question_id')}"}


def question(row: POPERow, cot: bool) -> str:
    """Returns the prompt: for a single word, or (`cot`) for reasoning first."""
    text = str(row.get("text", row.get("question"))).replace(f"\n{WORD}", "").strip()
    return with_reasoning(text) if cot else f"{text}\n{WORD}"


def score(row: POPERow, response: str, mode: Mode) -> Score:
    """Scores one response; the value is 1 for yes, 0 for no, -1 for neither."""
    asked = ASKED.search(str(row.get("text", row.get("question", ""))))
    said = official_word(response) if mode == "official" else robust_word(response, asked[1] if asked else "")
    word, rule = said
    correct = None if word is None else word == str(row["label"]).lower()
    confidence = 1.0 if rule == "official" else confidence_of(rule, correct)
    return Score(Verdict(correct, word or "", word, rule, confidence), ({"yes": 1.0, "no": 0.0}.get(str(word), -1.0),))


def official_word(response: str) -> tuple[str, str]:
    """Returns word and rule as the benchmark's script reads them, after "Final answer:" if it occurs."""
    found = FINAL.search(response)
    text = found[1].strip() if found and "final answer" in response.lower() else response
    words = text.split(".")[0].replace(",", "").split(" ")
    return ("no" if {"No", "not", "no"} & set(words) else "yes"), "official"


def robust_word(response: str, asked: str = "") -> tuple[str | None, str]:
    """Returns yes or no (None if undecided), and the rule: an announced answer, the first word, or a
    statement about the object.

    Args:
        response: the model's response.
        asked: name of the object; "" if it is not known.
    """
    text = clean(response)
    if not text:
        return None, "empty"
    said = announced(text)
    for part, rule in ((said.text if said else "", "announced"), (_about(text, asked), "prose")):
        found = choice_of_prose(part, ("yes", "no")) if part else None
        if found is not None and not (
            rule == "prose" and is_refusal(text) and found[1] == "statement" and not UNSEEN.search(text)
        ):
            return ("yes", "no")[found[0]], f"{rule}/{found[1]}"
    return None, "neither"


def _about(text: str, asked: str) -> str:
    """Returns the part of a text about an object, or all of it if it begins with yes or no; "No." if it denies the
    object, as "a cat, not a dog" denies the dog.
    """
    if not asked or YES.match(text):
        return text
    name = rf"\b{re.escape(asked)}(?:e?s)?\b"
    if re.search(rf"\b(?:no|not|without)\s+(?:an?\s+|any\s+|the\s+)?{name}", text, re.IGNORECASE):
        return "No."
    mentioned = [part for part in sentences(text) if re.search(name, part, re.IGNORECASE)]
    return " ".join(LACKING.sub("", part) for part in mentioned) or text


def table(rows: Sequence[POPERow], values: Any) -> Table:
    """Makes the table: accuracy, precision, recall, F1 and share of yes in percent, of each split and pooled."""
    splits: dict[str, list[tuple[bool, float]]] = {}
    for row, value in zip(rows, values, strict=True):
        splits.setdefault(str(row.get("category") or "all"), []).append(
            (str(row["label"]).lower() == "yes", float(value[0]))
        )
    pooled = [pair for pairs in splits.values() for pair in pairs]
    by_split = {name: counts(pairs) for name, pairs in splits.items()}
    mean = sum(found["F1"] for found in by_split.values()) / len(by_split) if by_split else 0.0
    everything = counts(pooled)
    lines = [
        TableRow("", "mean F1", mean, None, total=len(pooled)),
        TableRow("", "pooled F1", everything["F1"], None, total=len(pooled)),
    ]
    lines += [TableRow("pooled", name, number, None, total=len(pooled)) for name, number in everything.items()]
    for split, found in by_split.items():
        lines += [TableRow(split, name, number, None, total=len(splits[split])) for name, number in found.items()]
    return Table("mean F1", mean, tuple(lines))


def counts(pairs: Sequence[tuple[bool, float]]) -> dict[str, float]:
    """Computes the five numbers in percent, and the counts, from pairs of (label is yes, answer: 1 yes, 0 no, -1
    neither, which counts as wrong).
    """
    said = [(label, not label if value < 0 else value > 0.5) for label, value in pairs]
    tp, fp = sum(label and yes for label, yes in said), sum(not label and yes for label, yes in said)
    fn, total = sum(label and not yes for label, yes in said), len(said)
    precision, recall = tp / (tp + fp) if tp + fp else 0.0, tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    numbers = {
        "accuracy": (total - fp - fn) / total,
        "precision": precision,
        "recall": recall,
        "F1": f1,
        "yes": (tp + fp) / total,
    }
    counted = {"TP": float(tp), "FP": float(fp), "TN": float(total - tp - fp - fn), "FN": float(fn)}
    return {name: 100 * number for name, number in numbers.items()} | counted


def problem(row: POPERow) -> str | None:
    """Returns what is wrong with a row, or None."""
    return None if str(row["label"]).lower() in ("yes", "no") else f"label is {row['label']!r}, not yes or no"


BENCHMARK = Benchmark(
    name="pope",
    title="POPE",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(100, 4096),
    where=WHERE,
    needed=("label",),
    problem=problem,
    named=_named,
    response_fields=("response", "prediction", "answer_text", "model_answer"),
    compared="accuracy, %",
    counts=("TP", "FP", "TN", "FN"),
)
