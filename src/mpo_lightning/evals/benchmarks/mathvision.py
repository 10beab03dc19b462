"""MATH-Vision: 3,040 competition problems (test) or 304 (testmini, what the paper reports), by subject and level.

Both modes are rule-based. `official` is the benchmark's own extraction and equality (see `mathvision_rules`). `robust`
is our checker, which also accepts right answers that are not in the expected form.

Source: mathllm/MATH-V evaluation/, models/GPT4.py (prompt).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.answers import Kind, Question, Verdict, check, equivalent
from mpo_lightning.answers.confidence import confidence_of
from mpo_lightning.evals.benchmark import Benchmark, Mode, Score, Table, accuracies, verdict_score
from mpo_lightning.evals.benchmarks.prompts import lettered, with_reasoning
from mpo_lightning.evals.files import find_file, read_rows
from mpo_lightning.evals.rules.mathvision_rules import official_answer, official_correct

WHERE = (
    "https://huggingface.co/datasets/MathLLMs/MathVision or https://github.com/mathllm/MATH-V "
    "(data/testmini.jsonl and images/)"
)
PROMPT = (
    'Please solve the problem step by step and put your answer in one "\\boxed{}". If it is a multiple choice '
    "question, only one letter is allowed in "
    'the "\\boxed{}".\n'
)

PLAIN = re.compile(r"-?\d+(?:\.\d+)?")


class MathVisionRow(TypedDict, total=False):
    """A problem."""

    id: str
    question: str
    options: list[str]
    answer: Required[str]
    level: int
    subject: str


def load(folder: Path) -> list[MathVisionRow]:
    """Reads the problems of testmini.jsonl or test.jsonl."""
    return read_rows(
        find_file(folder, ("testmini.jsonl", "data/testmini.jsonl", "test.jsonl", "data/test.jsonl"), WHERE)
    )


def question(row: MathVisionRow, cot: bool) -> str:
    """Returns the official prompt for a boxed answer, or (`cot`) the paper's, with question and options."""
    text = re.sub(r"<image\d+>", "", row["question"]).strip()
    options = [] if row["options"] == list("ABCDE") else row["options"]
    if cot:
        return with_reasoning("\n".join([text, lettered(options, "({letter}) {text}")]).strip())
    return PROMPT + f"{text}\n{lettered(options, '({letter}) {text}')}".rstrip()


def score(row: MathVisionRow, response: str, mode: Mode) -> Score:
    """Scores one response."""
    gold, options = str(row["answer"]), [str(option) for option in row.get("options") or []]
    if mode == "official":
        answer = official_answer(response)
        return verdict_score(
            Verdict(official_correct(answer, gold, options), answer, answer, "official", confidence=1.0)
        )
    if not options:
        return verdict_score(_free_form(response, tidy_gold(gold)))
    verdict = check(response, Question(Kind.CHOICE, gold, tuple(options)))
    if verdict.correct is None and verdict.extraction and options != list("ABCDE"):
        same = [place for place, option in enumerate(options) if equivalent(option, verdict.extraction)]
        if len(same) == 1:
            letter = chr(ord("A") + same[0])
            rule, right = "prose/expression", letter == gold
            return verdict_score(Verdict(right, verdict.extraction, letter, rule, confidence_of(rule, right)))
    return verdict_score(verdict)


def tidy_gold(gold: str) -> str:
    """Removes the published file's faults from a ground truth: a form feed for \\f, units in braces, blanks."""
    gold = gold.replace("\x0crac", "\\frac").strip()
    return re.sub(r"\{(?:degrees|inches|units)\}", "", gold)


def _free_form(response: str, gold: str) -> Verdict:
    """Checks a response as mathematics; if undecided and the ground truth is a number, as a number among words."""
    verdict = check(response, Question(Kind.EXPRESSION, gold))
    if verdict.correct is None and PLAIN.fullmatch(gold):
        return check(response, Question(Kind.FLOAT if "." in gold else Kind.INTEGER, gold))
    return verdict


def table(rows: Sequence[MathVisionRow], values: Any) -> Table:
    """Makes the table: accuracy of all, by level, by subject, and by both."""
    return accuracies(
        rows,
        values,
        "accuracy",
        {
            "level": lambda row: [f"level{row['level']}"] if "level" in row else [],
            "subject": lambda row: [row["subject"]] if "subject" in row else [],
            "subject_level": lambda row: (
                [f"{row['subject']}_level{row['level']}"] if "subject" in row and "level" in row else []
            ),
        },
    )


def problem(row: MathVisionRow) -> str | None:
    """Returns what is wrong with a row, or None."""
    options = row.get("options")
    if options is not None and not isinstance(options, list):
        return "options is not a list"
    if options and str(row["answer"]) not in tuple("ABCDE"[: len(options)]):
        return f"answer {row['answer']!r} names no option"
    return "it has no field 'options'" if options is None and "level" not in row and "subject" not in row else None


BENCHMARK = Benchmark(
    name="mathvision",
    title="MATH-Vision",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(4096, 4096),
    where=WHERE,
    needed=("answer",),
    problem=problem,
)
