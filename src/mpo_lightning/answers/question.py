"""What was asked, and what became of a response to it: the typed records of the checker."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpo_lightning.answers.numbers import parse_number

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
        kind: of the answer.
        gold: the right answer; of a choice its letter or its text.
        choices: texts of the options in the order of their letters; of a choice.
        precision: decimals that a float is rounded to; None asks for equality to the digits that the gold has.
    """

    kind: Kind
    gold: str
    choices: tuple[str, ...] = ()
    precision: int | None = None


@dataclass(frozen=True)
class Extraction:
    """The part of a response that is its answer.

    Attributes:
        text: as it stands in the response.
        rule: the name of what found it.
        confidence: 0 to 1; how often such a find is what the response means.
    """

    text: str
    rule: str
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """A decision about a response.

    Attributes:
        correct: None is undecided: no answer was found, or it cannot be compared.
        extraction: the answer's words, "" where there are none.
        prediction: the same in the form that was compared, such as a letter or a number; None where there is none.
        rule: what found and compared it, such as "boxed/number".
        confidence: 0 to 1.
    """

    correct: bool | None
    extraction: str
    prediction: str | None
    rule: str
    confidence: float


def question_of(row: dict[str, Any]) -> Question:
    """What was asked, read off a prepared question: its `choices`, or the options that its text lists; otherwise the
    kind of its answer.

    Args:
        row: with `question` and `answer`; `choices` and `precision` where the data set has them.
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
    """The options that a question's text lists as A., B., ... or (A), (B), ...; none where fewer than two follow each
    other.
    """
    found: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == "ABCDEFGH"[len(found) : len(found) + 1]:
            found.append(text.strip() or letter)
    return tuple(found) if len(found) > 1 else ()
