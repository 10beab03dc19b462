"""Decides whether a response is right. The verdict is typed and names the rule behind it.

The right answer's type is settled once. The response's answer is found, freed from what keeps words from being an
answer, and compared by that type. How far a verdict can be trusted was measured (`confidence.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from mpo_lightning.answers.confidence import confidence_of
from mpo_lightning.answers.question import LETTERS, Kind, Question, Verdict
from mpo_lightning.answers.response.announcements import Announcement, announcements, is_disowned
from mpo_lightning.answers.response.corrections import corrected, takes_back
from mpo_lightning.answers.response.extract import clean
from mpo_lightning.answers.typed import Type, type_of
from mpo_lightning.answers.values.normal import normal
from mpo_lightning.answers.verdicts.choice import choice_verdict, gold_choice
from mpo_lightning.answers.verdicts.items import list_verdict
from mpo_lightning.answers.verdicts.number import number_verdict
from mpo_lightning.answers.verdicts.value import value_verdict

OPTION = re.compile(r"\s*\(?[Aa][.):]")
"""The letter before the text of a first option."""
DIGIT = re.compile(r"\d")
LONGEST_GOLD = 2_000
"""Longest right answer, in characters, that is compared."""
MOST_RIVALS = 6
"""Number of other announced answers that are compared with the last one."""


def check(response: str, question: Question) -> Verdict:
    """Decides whether a response answers a question.

    Args:
        response: the model's response.
        question: the question and its right answer.

    Returns:
        Correct is True or False; None if no answer is found or it cannot be compared with the right one, as when the
        response states several. A refusal is wrong.
    """
    verdict = _verdict(response, settled(question))
    confidence = confidence_of(verdict.rule, verdict.correct)
    return Verdict(verdict.correct, verdict.extraction, verdict.prediction, verdict.rule, confidence)


def _verdict(response: str, question: Question) -> Verdict:
    if is_unusable(question):
        return Verdict(None, "", None, "unusable right answer")
    text = clean(response)
    if not text:
        return Verdict(False, "", None, "empty")
    if (rest := corrected(text, question.choices)) is not None:
        text = rest.strip()  # what the response retracts does not count
    said = announcements(text)
    if not said and is_disowned(text):
        return Verdict(None, "", None, "not its own answer")
    decide = DECIDE[question.kind]
    verdict = decide(text, question)
    if (
        verdict.correct is not None
        and len(said) > 1
        and any(decide(other, question).correct is (not verdict.correct) for other in _rivals(text, said))
    ):
        # such as \boxed{8} and "Final answer: 7"
        return Verdict(None, verdict.extraction, verdict.prediction, f"{verdict.rule}/contradicted")
    return verdict


def is_unusable(question: Question) -> bool:
    """Whether a right answer reads to nothing ("...", "answer") or is too long, so that no response can be compared."""
    if question.kind is Kind.CHOICE:
        return False
    if len(question.gold) > LONGEST_GOLD:
        return True
    if DIGIT.search(question.gold):
        return False
    return type_of(normal(question.gold)) is Type.NOTHING


@lru_cache(maxsize=4096)
def settled(question: Question) -> Question:
    """A question in plain form: without letters before its options' texts, and a choice if its answer is an option."""
    gold = normal(question.gold)
    if not question.choices:
        return question if gold == question.gold else replace(question, gold=gold)
    choices = tuple(normal(choice) for choice in question.choices)
    if OPTION.match(choices[0]):
        pairs = zip(LETTERS, choices, strict=False)
        lettered = [re.match(rf"\s*\(?(?:{letter}|{letter.lower()})[.):]\s*(?=\S)", choice) for letter, choice in pairs]
        if all(lettered):
            choices = tuple(choice[match.end() :] for choice, match in zip(choices, lettered, strict=True) if match)
    plainer = replace(question, gold=gold, choices=choices)
    is_option = question.kind in (Kind.TEXT, Kind.EXPRESSION) and gold_choice(plainer) is not None
    return replace(plainer, kind=Kind.CHOICE) if is_option else plainer


def _rivals(text: str, said: Sequence[Announcement]) -> list[str]:
    """The answers announced beside the last one, unless the text between takes them back.

    A formal one (a box, "Final answer:") is not rivalled by a passing "the answer is".
    """
    last = said[-1]
    formal = last.rule != "announced"
    found = []
    for one, following in zip(said[-2::-1], said[:0:-1], strict=False):
        if (one.rule != "announced" or not formal) and not takes_back(text[one.end : max(one.end, last.start)]):
            answer = one.text if one.rule == "boxed" else one.text[: max(0, following.start - one.end)].strip(" .*")
            found += [answer] * (answer.lower() not in ("", "the", "my", "our"))
    return list(dict.fromkeys(found))[:MOST_RIVALS]


DECIDE = {
    Kind.CHOICE: choice_verdict,
    Kind.INTEGER: number_verdict,
    Kind.FLOAT: number_verdict,
    Kind.LIST: list_verdict,
    Kind.EXPRESSION: value_verdict,
    Kind.TEXT: value_verdict,
}
