"""LLaVA-Bench (in the wild): 60 questions about 24 images, graded by a judge.

The judge reads a caption and scores a reference answer and the model's, 1 to 10 each. The number is the ratio of their
means in percent, of all and of each category; above 100 is better than the reference. A review whose first line is not
two numbers counts -1 for both, and enters the means, as in the original.

Source: haotian-liu/LLaVA llava/eval/{eval_gpt_review_bench,summarize_gpt_review}.py; the judge's rule here is our own,
of the same structure.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Judge, Mode, Score, Table, TableRow
from mpo_lightning.evals.files import find_file, read_rows
from mpo_lightning.evals.rules.judged import judged_score, replies_of

WHERE = (
    "https://huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild (questions.jsonl, context.jsonl, "
    "answers_gpt4.jsonl and images/)"
)
SCORES = re.compile(r"[\s*`]*(?:scores?\s*:\s*)?(-?\d+(?:\.\d+)?)[\s,/*]+(-?\d+(?:\.\d+)?)[\s*`.]*", re.IGNORECASE)
SUFFIX = " Please give a detailed answer."
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
WHAT = {
    "conv": "a question that a user asks about a picture",
    "detail": "a request to describe a picture in detail",
    "complex": "a question about a picture that takes reasoning",
}
RULE = """Two AI assistants answered {what}. You see the picture only through the context above: the captions, and boxes where there are any. Judge both \
answers by their helpfulness, relevance, accuracy and level of detail, and give each an overall score from 1 to 10, higher for the better one. Write on the \
first line only the two scores, that of Assistant 1 and that of Assistant 2, with a space between them. On the lines below explain your scores without \
taking sides and without letting the order of the answers matter."""


class LLaVABenchRow(TypedDict, total=False):
    """A question with its captions and reference answer."""

    question_id: int
    text: Required[str]
    category: str
    context: Required[list[str] | str]
    reference: Required[str]
    run: int


def load(folder: Path) -> list[LLaVABenchRow]:
    """Reads questions.jsonl, with each question's captions and reference answer."""
    rows = read_rows(find_file(folder, ("questions.jsonl",), WHERE))
    if folder.is_file():
        return rows
    context = {row["image"]: row["caption"] for row in read_rows(find_file(folder, ("context.jsonl",), WHERE))}
    reference = {
        row["question_id"]: row["text"] for row in read_rows(find_file(folder, ("answers_gpt4.jsonl",), WHERE))
    }
    try:
        return [
            row
            | {
                "image_name": row["image"],
                "image": f"images/{row['image']}",
                "context": context[row["image"]],
                "reference": reference[row["question_id"]],
            }
            for row in rows
        ]
    except KeyError as error:
        raise InputError(
            f"{folder}: no context or reference answer for {error.args[0]}; get the benchmark again from {WHERE}"
        ) from None


def question(row: LLaVABenchRow, cot: bool) -> str:
    """Returns the prompt for a detailed answer, even with `cot`: the paper's evaluation never asked for reasoning."""
    return f"{row['text']}{SUFFIX}"


def _category(row: LLaVABenchRow) -> str:
    return str(row.get("category", "")).removeprefix("llava_bench_")


def messages(row: LLaVABenchRow, response: str, tries: int) -> list[dict[str, str]]:
    """Returns the judge's chat: a system turn, and a turn with context, question, both answers and the rule."""
    captions = "\n".join(row["context"]) if isinstance(row["context"], list) else str(row["context"])
    answers = "".join(
        f"[Assistant {number}]\n{text}\n\n[End of Assistant {number}]\n\n"
        for number, text in ((1, row["reference"]), (2, response))
    )
    rule = RULE.format(what=WHAT.get(_category(row), WHAT["conv"]))
    content = f"[Context]\n{captions}\n\n[Question]\n{row['text']}\n\n{answers}[System]\n{rule}\n\n"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def read(reply: str) -> tuple[float, float] | None:
    """Reads the two scores in a reply's first line: reference, model. Bold marks and a label before them are no matter."""
    found = SCORES.fullmatch(reply.split("\n")[0])
    return (float(found[1]), float(found[2])) if found else None


def score(row: LLaVABenchRow, response: str, mode: Mode) -> Score:
    """Scores a response by the review in its row."""
    return judged_score(
        JUDGE, replies_of(row, ("review", "judge_raw", "judge"), f"row {row.get('question_id')}")[:1], 2
    )


def table(rows: Sequence[LLaVABenchRow], values: Any) -> Table:
    """Makes the table: relative score and both means x 10, of all, each category and, with several runs, each run."""
    parts: dict[str, list[tuple[float, float]]] = {"all": []}
    runs = {str(row["run"]) for row in rows if "run" in row}
    for row, (reference, model) in zip(rows, values, strict=True):
        names = ["all", _category(row)] if _category(row) else ["all"]
        if len(runs) > 1:
            names += [f"run {row.get('run')} {name}" for name in names]
        for name in names:
            parts.setdefault(name, []).append((float(reference), float(model)))
    lines = []
    for name, pairs in parts.items():
        total = len(pairs)
        # The original rounds the means to three decimals before it divides them.
        reference, model = (
            10 * round(sum(pair[side] for pair in pairs) / total, 3) if total else 0.0 for side in (0, 1)
        )
        relative = 100 * model / reference if reference else 0.0
        group = "" if name == "all" else name
        lines += [
            TableRow(group, "relative score", relative, None, total=total),
            TableRow(group, "reference", reference, None, total=total),
            TableRow(group, "model", model, None, total=total),
        ]
    return Table("relative score", lines[0].score, tuple(lines))


JUDGE = Judge(
    messages, read, temperature=lambda tries: 0.2, max_tokens=1024, tries=1, otherwise=(-1.0, -1.0), model="gpt-4-0613"
)
BENCHMARK = Benchmark(
    name="llava_bench",
    title="LLaVA-Bench",
    id_field="question_id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(1000, 4096),
    where=WHERE,
    needed=(),
    judge=JUDGE,
    decimals=1,
    response_fields=("response", "prediction", "answer_text", "model_answer"),
    compared="the model's points, 1 to 10",
    compared_points=1,
)
