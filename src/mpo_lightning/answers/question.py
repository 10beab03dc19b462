"""The typed records of the checker: questions, extracted answers and verdicts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpo_lightning.answers.values.numbers import parse_number
from mpo_lightning.answers.values.words import words_of
from mpo_lightning.errors import BadRecord

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTION = re.compile(
    r"(?:^|(?<=[\n;,.?:： ]))[ \t]*[(（]?([A-J])(?:[)）]|[.:：](?=\s))[ \t]*([^\n]*?)(?=\n|[;,]?\s+[(（]?[B-J](?:[)）]"
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
        reason: why the answer is of this kind.
    """

    kind: Kind
    gold: str
    choices: tuple[str, ...] = ()
    precision: int | None = None
    reason: str = ""


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
    """Builds a question from a prepared row, and decides once what kind of answer is right.

    It is a choice if the right answer is one of the row's `choices`, or of the options that its text lists. Otherwise
    the row's `answer_type` says the kind, and without one the answer's form.

    Args:
        row: `question` and `answer`; `choices`, `precision` and `answer_type` if the data set has them.

    Raises:
        BadRecord: `answer_type` is none of the kinds.
    """
    gold = str(row["answer"]).strip()
    listed = row.get("choices")
    has_choices = isinstance(listed, list) and len(listed) > 1
    choices = tuple(map(str, listed or ())) if has_choices else options_of(str(row["question"]))
    where = "the row's choices" if has_choices else "the options in the question"
    letter = gold.strip("()（）.").upper()
    if choices and (place := named_option(gold, choices)) is not None:
        return Question(Kind.CHOICE, gold if gold in choices else LETTERS[place], choices, None, f"one of {where}")
    precision = row.get("precision")
    given = row.get("answer_type")
    if given is not None and str(given) not in (*Kind, ""):
        raise BadRecord(f"'answer_type' is {given!r:.40}; it must be one of {', '.join(Kind)}, or absent")
    if given and given != Kind.CHOICE:
        digits = int(precision) if isinstance(precision, int | float) else None
        return Question(Kind(given), gold, choices, digits, "the row's answer_type")
    if not choices and len(letter) == 1 and letter in "ABCDE":
        return Question(Kind.CHOICE, letter, tuple("ABCDE"), None, "a letter from A to E")
    sides = next((sides for sides in (("yes", "no"), ("true", "false")) if gold.lower() in sides), None)
    if sides:
        return Question(Kind.CHOICE, gold.lower(), sides, None, " or ".join(sides))
    number = parse_number(gold)
    if number is not None and number.value.denominator == 1 and "." not in gold:
        return Question(Kind.INTEGER, gold, (), None, "a whole number")
    if number is not None and "/" not in gold:
        digits = int(precision) if isinstance(precision, int | float) else len(re.findall(r"\.(\d*)", gold + ".")[0])
        return Question(Kind.FLOAT, gold, (), digits or None, "a decimal")
    if re.fullmatch(r"\[[-\d., ]+\]", gold):
        return Question(Kind.LIST, gold, (), None, "numbers in brackets")
    if FORMULA.search(gold) or number is not None:
        return Question(Kind.EXPRESSION, gold, (), None, "marks of a formula or of joined numbers")
    return Question(Kind.TEXT, gold, (), None, "words")


def named_option(gold: str, choices: tuple[str, ...]) -> int | None:
    """The index of the option that a right answer names by its text, its letter or both; None if it names none."""
    texts = [choice.strip() for choice in choices]
    gold = gold.strip()
    if gold in texts:
        return texts.index(gold)
    found = re.fullmatch(
        r"(?:(?:option|choice|answer)\s+)?[(（]?([A-Za-z])[)）]?[.:]?(?:\s+(.+))?", gold, re.IGNORECASE
    )
    if found and (letter := found[1].upper()) in LETTERS[: len(texts)]:
        place = LETTERS.index(letter)
        if found[2] is None or words_of(found[2]) == words_of(texts[place]):
            return place
    same = [place for place, text in enumerate(texts) if words_of(text) == words_of(gold)]
    return same[0] if same else None


def options_of(question: str) -> tuple[str, ...]:
    """The options that a question lists as A., B., ... or (A), (B), ...; empty if fewer than two follow each other."""
    found: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == LETTERS[len(found) : len(found) + 1]:
            found.append(text.strip() or letter)
    return tuple(found) if len(found) > 1 else ()
