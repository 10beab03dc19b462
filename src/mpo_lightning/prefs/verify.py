"""Is a sampled response right, wrong, or without an answer in the form that was asked for?

The decision is `answers.check`, the same that scores benchmarks. What it is not sure about is used on neither side: a false "right" would become a chosen wrong
answer. Nothing is rewritten.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from mpo_lightning.answers import Kind, Question, Verdict, check
from mpo_lightning.prefs.words import plain_words

CONFIDENT = 0.92
"""Least confidence of a verdict that is used; at it both kinds of verdict agree with published ones in more than 99 % (benchmarks/verdicts.py)."""

ANNOUNCING = ("boxed", "final answer", "announced", "bracketed")


NUMBER = re.compile(r"[-+]?\d[\d.,]*")
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


def verify(response: str, question: Question, confident: float = CONFIDENT) -> Verified:
    """What a response is good for.

    Args:
        response: to a prompt that asked for "Final answer: ..".
        question: with the right answer.
        confident: least confidence of a verdict that is used.
    """
    verdict = check(response, question)
    announced = verdict.rule.split("/")[0] in ANNOUNCING
    if verdict.correct is True:
        sure = announced and verdict.confidence >= confident and not other_unit(verdict.extraction, question)
        outcome = Outcome.RIGHT if sure else Outcome.UNDECIDED if announced else Outcome.RIGHT_WITHOUT_FORM
    elif announced:
        sure = verdict.correct is False and verdict.confidence >= confident
        outcome = Outcome.WRONG if sure else Outcome.UNDECIDED
    else:
        outcome = Outcome.NO_FORM
    return Verified(outcome, verdict)


def other_unit(said: str, question: Question) -> bool:
    """Whether the right number was said with another unit than the right answer's; the checker leaves units to its caller.

    Args:
        said: the answer's words.
        question: with the right answer.
    """
    if question.kind not in (Kind.INTEGER, Kind.FLOAT):
        return False
    found, wanted = (plain_words(NUMBER.sub(" ", UNIT_MARKS.sub(r" \1 ", text))) for text in (said, question.gold))
    return bool(found and wanted) and found != wanted
