"""CRPE: relation comprehension. A question has four rotations of its options, and counts only if all four are right.

The paper's number is the plain mean of the three relation splits (subject, predicate, object); VLMEvalKit's `total` is
the mean over questions. The table has both, and the existence split if its file is present.

Source: OpenGVLab/all-seeing all-seeing-v2/llava/eval/eval_crpe.py (four in a row, the answer one letter); VLMEvalKit
vlmeval/dataset/utils/crpe.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, TableRow, verdict_score
from mpo_lightning.evals.benchmarks.mathvista import FINAL
from mpo_lightning.evals.benchmarks.prompts import LETTER, with_reasoning
from mpo_lightning.evals.files import read_rows

WHERE = (
    "https://huggingface.co/datasets/OpenGVLab/CRPE (crpe_relation.jsonl, crpe_exist.jsonl, abnormal_images/) "
    "and COCO images"
)
RELATIONS = ("subject", "predicate", "object")
ROTATIONS = 4


class CRPERow(TypedDict, total=False):
    """One rotation of a question; `group` is the same for its four rotations."""

    id: str
    group: str
    text: str
    category: Required[str]
    correct_option: Required[str]


def load(folder: Path) -> list[CRPERow]:
    """Reads crpe_relation.jsonl and crpe_exist.jsonl; every four rows in turn are one question."""
    files = (
        [folder]
        if folder.is_file()
        else [path for name in ("crpe_relation.jsonl", "crpe_exist.jsonl") if (path := folder / name).is_file()]
    )
    if not files:
        raise InputError(
            f"{folder}: holds neither crpe_relation.jsonl nor crpe_exist.jsonl; get the benchmark from {WHERE}"
        )
    rows = []
    for path in files:
        found = read_rows(path)
        if len(found) % ROTATIONS:
            raise InputError(
                f"{path}: has {len(found)} rows, which is not a multiple of {ROTATIONS} rotations; get it again "
                f"from {WHERE}"
            )
        rows += [
            row | {"group": f"{path.stem}/{place // ROTATIONS}", "id": f"{path.stem}/{place}"}
            for place, row in enumerate(found)
        ]
    return rows


def question(row: CRPERow, cot: bool) -> str:
    """Returns the prompt, with the options as in the file: for the letter, or (`cot`) for reasoning first."""
    text = str(row["text"])
    return with_reasoning(text.replace(LETTER, "").strip()) if cot else text


def choices_in(text: str) -> tuple[str, ...]:
    """Returns the options at the end of a question's text, where each is a line "A. ..."."""
    return tuple(match[1].strip() for match in re.finditer(r"^\s*\(?[A-H][.):]\)?\s*(.+)$", text, re.MULTILINE))


def score(row: CRPERow, response: str, mode: Mode) -> Score:
    """Scores the response to one rotation."""
    gold = str(row["correct_option"]).strip().upper()
    if mode == "official":
        found = FINAL.search(response)
        letter = (found[1] if found else response).strip()
        return verdict_score(
            Verdict(letter == gold, letter[:80], letter if len(letter) == 1 else None, "official", confidence=1.0)
        )
    choices = choices_in(str(row.get("text", ""))) or tuple("ABCD")
    return verdict_score(check(response, Question(Kind.CHOICE, gold, choices)))


def table(rows: Sequence[CRPERow], values: Any) -> Table:
    """Makes the table: mean of the splits, total, each split, and single rotations, in percent."""
    groups: dict[str, list[float]] = {}
    splits: dict[str, str] = {}
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        name = str(row.get("group", place // ROTATIONS))
        groups.setdefault(name, []).append(float(value[0]))
        splits[name] = str(row["category"])
    right = {name: float(len(found) % ROTATIONS == 0 and all(found)) for name, found in groups.items()}
    by_split: dict[str, list[float]] = {}
    for name, circular in right.items():
        by_split.setdefault(splits[name], []).append(circular)
    scores = {split: 100 * sum(found) / len(found) for split, found in by_split.items()}
    relations = [scores[split] for split in RELATIONS if split in scores]
    total = [circular for name, circular in right.items() if splits[name] in RELATIONS]
    mean = sum(relations) / len(relations) if relations else 0.0
    lines = [TableRow("", "relation mean", mean, None, total=len(total))]
    if total:
        lines.append(TableRow("", "relation total", 100 * sum(total) / len(total), sum(total), total=len(total)))
    lines += [
        TableRow("split", split, score, sum(by_split[split]), total=len(by_split[split]))
        for split, score in scores.items()
    ]
    single = [right for found in groups.values() for right in found]
    lines.append(
        TableRow(
            "", "single rotations", 100 * sum(single) / len(single) if single else 0.0, sum(single), total=len(single)
        )
    )
    return Table("relation mean", mean, tuple(lines))


def problem(row: CRPERow) -> str | None:
    """Returns what is wrong with a row, or None."""
    return (
        None
        if str(row["correct_option"]).strip().upper() in tuple("ABCDEFGH")
        else f"correct_option is {row['correct_option']!r}, not a letter"
    )


BENCHMARK = Benchmark(
    name="crpe",
    title="CRPE",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(100, 4096),
    where=WHERE,
    needed=("correct_option", "category"),
    problem=problem,
    response_fields=("response", "prediction", "answer_text", "model_answer"),
    compared="questions with all rotations right, %",
    compared_problem=lambda row, number: str(row.get("group", number // ROTATIONS)),
    counts_whole=True,
)
