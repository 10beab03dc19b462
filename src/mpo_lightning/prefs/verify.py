"""Is a sampled response right, wrong, or without an answer in the form that was asked for?

The decision is `answers.check`, the same that scores benchmarks. What it is not sure about is used on neither side: a
false "right" would become a chosen wrong answer, and a right answer that it could not read ("Final answer: half a
dozen") must not be rejected. So whether the form was kept is read off the response itself, and not off what the checker
made of it. Nothing is rewritten.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.answers.extract import announced, clean, is_refusal
from mpo_lightning.answers.numbers import find_numbers, parse_number
from mpo_lightning.answers.units import units_differ
from mpo_lightning.data.words import plain_words

CONFIDENT = 0.92
"""Least confidence of a verdict that is used (measured by benchmarks/verdicts.py)."""

LIKELY = 0.7
"""Least confidence with which a response that announces no answer must be wrong to be rejected for it; no rule that
reads running text reaches `CONFIDENT`.
"""

ANNOUNCING = ("boxed", "final answer", "announced", "bracketed")
"""Rules of the checker that read an announced answer."""

NUMBER = re.compile(r"[-+]?\d[\d.,]*")
PERCENT = re.compile(r"%|\bpercent|\bpct\b")
UNIT_MARKS = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\[a-z]+|[{}$\\]")
"""LaTeX around a unit."""


class Outcome(StrEnum):
    """What a response is good for."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_FORM = "no_form"
    """No answer in the form that was asked for, and not right either: rejected for it."""
    RIGHT_WITHOUT_FORM = "right_without_form"
    """Right, but not in that form: used on neither side."""
    UNDECIDED = "undecided"
    """Used on neither side."""


@dataclass(frozen=True)
class Verified:
    """A response's outcome and the verdict behind it."""

    outcome: Outcome
    verdict: Verdict


def verify(response: str, question: Question, confident: float = CONFIDENT, form_asked: bool = True) -> Verified:
    """What a response is good for.

    Args:
        response: of the model.
        question: with the right answer.
        confident: least confidence of a verdict that is used.
        form_asked: whether the prompt asked for "Final answer: .."; a response cannot fail what nobody asked for.
    """
    verdict = check(response, question)
    read = verdict.rule.split("/")[0] in ANNOUNCING
    if not read:
        text = clean(response)
        if announced(text) is None:
            return Verified(_unannounced(text, question, verdict, min(confident, LIKELY), form_asked), verdict)
    # A verdict on anything but the announced answer says that the checker could not read that one.
    sure = read and verdict.correct is not None and verdict.confidence >= confident
    if not sure or other_unit(verdict.extraction, question, bool(verdict.correct)):
        return Verified(Outcome.UNDECIDED, verdict)
    return Verified(Outcome.RIGHT if verdict.correct else Outcome.WRONG, verdict)


def _unannounced(text: str, question: Question, verdict: Verdict, confident: float, form_asked: bool) -> Outcome:
    if verdict.correct is True:
        return Outcome.RIGHT_WITHOUT_FORM
    wrong = is_refusal(text) if verdict.correct is None else verdict.confidence >= confident
    return Outcome.NO_FORM if form_asked and wrong and not mentions(text, question) else Outcome.UNDECIDED


def mentions(text: str, question: Question) -> bool:
    """Whether the right answer stands anywhere in a text, so that a careful reader might find that it gives it.

    Args:
        text: of a response.
        question: with the right answer.
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
    """Whether an answer and the right one differ in their units, or in how a share is written, so that their numbers
    say nothing; the checker converts neither.

    Args:
        said: the answer's words.
        question: with the right answer.
        right: whether the numbers are the same.
    """
    if question.kind not in (Kind.INTEGER, Kind.FLOAT, Kind.EXPRESSION):
        return False
    if units_differ(said, question.gold):
        return True
    if question.kind is Kind.EXPRESSION:
        return not right and bool(PERCENT.search(said)) != bool(PERCENT.search(question.gold))
    if not right:
        # 25 % beside 0.25; 1.2 beside 1.2 million.
        share = bool(PERCENT.search(said)) != bool(PERCENT.search(question.gold))
        if share or NUMBER.findall(said) == NUMBER.findall(question.gold):
            return True
    found, wanted = (plain_words(NUMBER.sub(" ", UNIT_MARKS.sub(r" \1 ", text))) for text in (said, question.gold))
    return bool(found and wanted) and found != wanted
