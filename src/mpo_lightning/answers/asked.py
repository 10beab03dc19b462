"""What was asked, read off a question's row: the kind of its answer, and the options it lists."""

import re
from typing import Any

from mpo_lightning.answers.numbers import parse_number
from mpo_lightning.answers.question import Kind, Question

OPTION = re.compile(
    r"(?:^|(?<=[\n;,.?:： ]))[ \t]*[(（]?([A-H])(?:[)）]|[.:：](?=\s))[ \t]*([^\n]*?)(?=\n|[;,]?\s+[(（]?[B-H](?:[)）]|[.:：](?=\s))|$)"
)
FORMULA = re.compile(r"[\\^=<>√π²³{}]|\d\s*[+*/-]\s*\d")


def question_of(row: dict[str, Any]) -> Question:
    """What was asked, read off a prepared question: its `choices`, or the options that its text lists; otherwise the kind of its answer.

    Args:
        row: with `question` and `answer`; `choices` and `precision` where the data set has them.
    """
    gold = str(row["answer"]).strip()
    listed = row.get("choices")
    choices = tuple(map(str, listed)) if isinstance(listed, list) and len(listed) > 1 else options_of(str(row["question"]))
    letter = gold.strip("()（）.").upper()
    if choices and (gold in choices or (len(letter) == 1 and letter in "ABCDEFGH"[: len(choices)])):
        return Question(Kind.CHOICE, gold if gold in choices else letter, choices)
    if not choices and len(letter) == 1 and letter in "ABCDE":
        return Question(Kind.CHOICE, letter, tuple("ABCDE"))
    if gold.lower() in ("yes", "no", "true", "false"):
        return Question(Kind.CHOICE, gold.lower(), ("yes", "no") if gold.lower() in ("yes", "no") else ("true", "false"))
    number = parse_number(gold)
    if number is not None and number.value.denominator == 1 and "." not in gold:
        return Question(Kind.INTEGER, gold)
    if number is not None and "/" not in gold:
        precision = row.get("precision")
        digits = int(precision) if isinstance(precision, int | float) else len(re.findall(r"\.(\d*)", gold + ".")[0])
        return Question(Kind.FLOAT, gold, (), digits or None)
    if re.fullmatch(r"\[[-\d., ]+\]", gold):
        return Question(Kind.LIST, gold)
    return Question(Kind.EXPRESSION if FORMULA.search(gold) or number is not None else Kind.TEXT, gold)


def options_of(question: str) -> tuple[str, ...]:
    """The options that a question's text lists as A., B., ... or (A), (B), ...; none where fewer than two follow each other."""
    found: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == "ABCDEFGH"[len(found) : len(found) + 1]:
            found.append(text.strip() or letter)
    return tuple(found) if len(found) > 1 else ()
