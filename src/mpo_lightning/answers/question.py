"""The typed records of the checker: questions, extracted answers and verdicts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpo_lightning.answers.values.numbers import parse_number

OPTION = re.compile(
    r"(?:^|(?<=[\n;,.?:： ]))[ \t]*[(（]?([A-H])(?:[)）]|[.:：](?=\s))[ \t]*([^\n]*?)(?=\n|[;,]?\s+[(（]?[B-H](?:[)）]"
    r"|[.:：](?=\s))|$)"
)
FORMULA = re.compile(r"[\\^=<>√π²³{}]|\d\s*[+*/-]\s*\d")


class Kind(StrEnum):
    """The type of an answer."""

    CHOICE = "choice"
    INTEGER = "integer"
    FLOAT = "float"
    LIST = "list"
    EXPRESSION = "expression"
    TEXT = "text"


@dataclass(frozen=True)
class Question:
    """A question that has one right answer.

    Attributes:
        kind: type of the answer.
        gold: the right answer; for a choice, its letter or its text.
        choices: texts of a choice's options, in the order of their letters.
        precision: decimals to which a float is rounded; None requires an equal value.
    """

    kind: Kind
    gold: str
    choices: tuple[str, ...] = ()
    precision: int | None = None


@dataclass(frozen=True)
class Extraction:
    """The part of a response that is its answer.

    Attributes:
        text: text of the answer as in the response.
        rule: name of the rule that found it.
    """

    text: str
    rule: str


@dataclass(frozen=True)
class Verdict:
    """The decision on a response.

    Attributes:
        correct: None if undecided: no answer was found, or it cannot be compared.
        extraction: text of the answer; "" if there is none.
        prediction: the answer as it was compared, such as a letter or a number; None if there is none.
        rule: how it was found and compared, such as "boxed/number".
        confidence: the share of such verdicts that published ones agree with; 0 if undecided.
    """

    correct: bool | None
    extraction: str
    prediction: str | None
    rule: str
    confidence: float = 0.0


def question_of(row: Mapping[str, Any]) -> Question:
    """Builds a question from a prepared row.

    It is a choice if the row has `choices` or its text lists options. Otherwise the answer decides the kind.

    Args:
        row: `question` and `answer`; `choices` and `precision` if the data set has them.
    """
    gold = str(row["answer"]).strip()
    listed = row.get("choices")
    choices = (
        tuple(map(str, listed)) if isinstance(listed, list) and len(listed) > 1 else options_of(str(row["question"]))
    )
    letter = gold.strip("()（）.").upper()
    if choices and (gold in choices or (len(letter) == 1 and letter in "ABCDEFGH"[: len(choices)])):
        return Question(Kind.CHOICE, gold if gold in choices else letter, choices)
    if not choices and len(letter) == 1 and letter in "ABCDE":
        return Question(Kind.CHOICE, letter, tuple("ABCDE"))
    if gold.lower() in ("yes", "no", "true", "false"):
        return Question(
            Kind.CHOICE, gold.lower(), ("yes", "no") if gold.lower() in ("yes", "no") else ("true", "false")
        )
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
    """The options that a question lists as A., B., ... or (A), (B), ...; empty if fewer than two follow each other."""
    found: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == "ABCDEFGH"[len(found) : len(found) + 1]:
            found.append(text.strip() or letter)
    return tuple(found) if len(found) > 1 else ()
