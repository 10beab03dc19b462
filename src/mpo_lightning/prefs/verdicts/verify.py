"""Decides whether a sampled response is right, wrong, or without an answer in the requested form.

The verdict is `answers.check`'s, the checker that scores benchmarks. An uncertain verdict is used on neither side: a
false "right" would make a wrong answer chosen, and a right answer that the checker cannot read ("Final answer: half a
dozen") must not be rejected. So the form is read from the response itself, not from the verdict.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.answers.confidence import ANNOUNCING, threshold
from mpo_lightning.answers.response.extract import announced, clean, is_refusal
from mpo_lightning.answers.values.numbers import find_numbers, parse_number
from mpo_lightning.answers.values.units import unit_of, units_differ
from mpo_lightning.data.words import plain_words

CONFIDENT = threshold("announced")
"""Least confidence of a verdict on an announced answer that is used (benchmarks/calibrate.py)."""

LIKELY = threshold("without an announcement")
"""Least confidence of "wrong" at which a response without an announced answer is rejected (likewise)."""

NUMBER = re.compile(r"[-+]?\d[\d.,]*")
PERCENT = re.compile(r"%|\bpercent|\bpct\b")
UNIT_MARKS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\[a-z]+|[{}$\\]")
"""Matches LaTeX around a unit."""


class Outcome(StrEnum):
    """How a response is used."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_FORM = "no_form"
    """No answer in the requested form, and not right: used on the rejected side."""
    RIGHT_WITHOUT_FORM = "right_without_form"
    """Right, but not in the requested form: used on neither side."""
    UNDECIDED = "undecided"
    """Not certain: used on neither side."""


@dataclass(frozen=True)
class Verified:
    """A response's outcome and the verdict behind it."""

    outcome: Outcome
    verdict: Verdict


def verify(response: str, question: Question, confident: float = CONFIDENT, form_asked: bool = True) -> Verified:
    """Verifies a response and decides how it is used.

    Args:
        response: the model's response.
        question: the question with its ground truth.
        confident: least confidence of a verdict that is used.
        form_asked: whether the prompt asked for "Final answer: .."; otherwise no response is `NO_FORM`.
    """
    verdict = check(response, question)
    read = verdict.rule.split("/")[0] in ANNOUNCING
    if not read:
        text = clean(response)
        if announced(text) is None:
            return Verified(
                _unannounced(text, question, verdict, min(confident, LIKELY), form_asked=form_asked), verdict
            )
    # If the verdict is not on the announced answer, the checker could not read the announced one.
    sure = read and verdict.correct is not None and verdict.confidence >= confident
    if not sure or other_unit(verdict.extraction, question, bool(verdict.correct)):
        return Verified(Outcome.UNDECIDED, verdict)
    return Verified(Outcome.RIGHT if verdict.correct else Outcome.WRONG, verdict)


def decided_by(model: str, right: bool, verified: Verified, response: str, form_asked: bool) -> Verified:
    """Returns how a response is used that a verifier model decides where the rules did not.

    Args:
        model: kind of the verifier, for the verdict's rule.
        right: its decision.
        verified: what the rules said.
        response: the model's response.
        form_asked: whether the prompt asked for "Final answer: ..".
    """
    stated = announced(clean(response)) is not None
    verdict = replace(verified.verdict, correct=right, rule=f"verifier/{model}", confidence=0.0)
    if stated:
        return Verified(Outcome.RIGHT if right else Outcome.WRONG, verdict)
    unstated = Outcome.RIGHT_WITHOUT_FORM if right else Outcome.NO_FORM if form_asked else Outcome.UNDECIDED
    return Verified(unstated, verdict)


def _unannounced(text: str, question: Question, verdict: Verdict, confident: float, form_asked: bool) -> Outcome:
    if verdict.correct is True:
        return Outcome.RIGHT_WITHOUT_FORM
    wrong = is_refusal(text) if verdict.correct is None else verdict.confidence >= confident
    return Outcome.NO_FORM if form_asked and wrong and not mentions(text, question) else Outcome.UNDECIDED


def mentions(text: str, question: Question) -> bool:
    """Whether a text mentions the ground truth anywhere, so that a reader might accept it as the answer.

    Args:
        text: text of a response.
        question: the question with its ground truth.
    """
    gold = question.gold.strip()
    letter = gold.strip("()").upper()
    spoken = f" {plain_words(text)} "
    wanted = [gold]
    if question.kind is Kind.CHOICE and len(letter) == 1 and ord(letter) - ord("A") in range(len(question.choices)):
        if re.search(rf"(?<![A-Za-z]){letter}(?![A-Za-z])", text):
            return True
        wanted = [question.choices[ord(letter) - ord("A")]]
    elif gold in question.choices and re.search(
        rf"(?<![A-Za-z]){chr(ord('A') + question.choices.index(gold))}(?![A-Za-z])", text
    ):
        return True
    number = parse_number(wanted[0])
    if number is not None and any(found.value == number.value for found in find_numbers(text)):
        return True
    return is_refusal(wanted[0]) or any(f" {plain_words(words)} " in spoken for words in wanted)


def other_unit(said: str, question: Question, right: bool) -> bool:
    """Whether an answer and the ground truth differ in units or in percent signs, which the checker does not convert.

    Args:
        said: words of the answer.
        question: the question with its ground truth.
        right: whether the numbers are equal.
    """
    if question.kind not in (Kind.INTEGER, Kind.FLOAT, Kind.EXPRESSION):
        return False
    if units_differ(said, question.gold):
        return True
    if right and unit_of(said) is not None and unit_of(question.gold) is not None:
        return False
    if question.kind is Kind.EXPRESSION:
        return not right and bool(PERCENT.search(said)) != bool(PERCENT.search(question.gold))
    if not right:
        # 25 % beside 0.25; 1.2 beside 1.2 million.
        share = bool(PERCENT.search(said)) != bool(PERCENT.search(question.gold))
        if share or NUMBER.findall(said) == NUMBER.findall(question.gold):
            return True
    found, wanted = (plain_words(NUMBER.sub(" ", UNIT_MARKS.sub(r" \1 ", text))) for text in (said, question.gold))
    return bool(found and wanted) and found != wanted
