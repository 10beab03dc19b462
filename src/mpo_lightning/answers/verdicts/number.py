"""The verdict on a number: which number a response means, and whether it is the right one."""

import re
from fractions import Fraction

from mpo_lightning.answers.question import Extraction, Kind, Question, Verdict
from mpo_lightning.answers.response.extract import SHORT_REFUSAL, announced, conclusion, is_refusal
from mpo_lightning.answers.response.number import SPAN, number_in
from mpo_lightning.answers.response.qualifiers import (
    VAGUE,
    is_bound,
    offers_alternative,
    without_bounds,
    without_cause,
)
from mpo_lightning.answers.typed import equivalent
from mpo_lightning.answers.values.number_words import Number, roman
from mpo_lightning.answers.values.numbers import (
    WRITTEN,
    find_numbers,
    mantissa_exponent,
    parse_number,
    plain,
)
from mpo_lightning.answers.values.units import SHORT_UNITS, units_differ


def number_verdict(text: str, question: Question) -> Verdict:
    """Compares the number that a response means with the right one."""
    said = announced(text)
    if said is not None and (verdict := _announced(said, question)) is not None:
        return verdict
    if (whole := parse_number(text)) is not None:
        return _compared(Extraction(text, "number alone"), whole, question)
    if is_refusal(text):
        return Verdict(False, "", None, "refusal")
    said = conclusion(text)
    if said is not None and (found := _share(said.text, question) or number_in(said.text)) is not None:
        return _compared(said, found, question)
    numbers = find_numbers(without_bounds(text))
    if not numbers:
        return Verdict(None, text[-200:], None, "no number found")
    return _compared(Extraction(text[-200:], "last number"), numbers[-1], question)


def _announced(said: Extraction, question: Question) -> Verdict | None:
    """The verdict on an announced answer; None if it holds no number, so that the rest of the text may count."""
    if DIGITS_ALONE.fullmatch(said.text) and (whole := parse_number(said.text)) is not None:
        return _compared(said, whole, question)
    if offers_alternative(said.text):
        numbers = {number.value for number in find_numbers(without_cause(said.text))}
        if len(numbers) > 1:
            return Verdict(None, said.text, None, f"{said.rule}/one of several")
    if VAGUE.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/bound")
    refused = is_refusal(said.text)
    found = _share(said.text, question) or number_in(said.text) or roman(said.text.strip(" ."))
    if found is not None:
        if refused and len(said.text) <= SHORT_REFUSAL:
            return Verdict(None, said.text, None, f"{said.rule}/refusal")
        return _compared(said, found, question)
    if not is_bound(said.text) and equivalent(question.gold, said.text, question.precision):
        return Verdict(True, said.text, question.gold, f"{said.rule}/expression")
    if SPAN.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/range")
    if refused:
        return Verdict(False, said.text, None, f"{said.rule}/refusal")
    if any(mark.isdigit() for mark in said.text):
        return Verdict(None, said.text, None, f"{said.rule}/no single number")
    return None


DIGITS_ALONE = re.compile(rf"-?\d[\d,]*(?:\.\d+)?(?:\s(?:{SHORT_UNITS}))?\.?")
"""The most usual answer, which needs no further look."""
UNIT_SIGN = re.compile(r"[A-Za-z%°$€£¥\u4e00-\u9fff]")
SHARE = re.compile(rf"({WRITTEN})\s+out\s+of\s+(?:the\s+)?({WRITTEN})", re.IGNORECASE)


def _share(said: str, question: Question) -> Number | None:
    """The share in "three out of four", where a number between 0 and 1 is asked for; otherwise None."""
    if question.kind is not Kind.FLOAT or "out" not in said or (found := SHARE.search(said)) is None:
        return None
    gold = parse_number(question.gold)
    if gold is None or not 0 < gold.value < 1:
        return None
    part, whole = (parse_number(words) for words in found.groups())
    return Number(part.value / whole.value, *found.span()) if part and whole and whole.value else None


def _compared(said: Extraction, found: Number, question: Question) -> Verdict:
    if UNIT_SIGN.search(question.gold) and units_differ(question.gold, said.text):
        return Verdict(None, said.text, plain(found.value), f"{said.rule}/another unit")
    return Verdict(_same_number(found, question), said.text, plain(found.value), f"{said.rule}/number")


def _same_number(found: Number, question: Question) -> bool | None:
    gold = parse_number(question.gold)
    if gold is None:
        return None
    if found.value == gold.value:
        as_share = found.percent and not gold.percent and abs(gold.value) <= 1
        return None if as_share else True  # 0.5% for 0.5
    if question.kind is Kind.FLOAT and question.precision is not None:
        # 6.63e-34 is rounded in its mantissa.
        exponent = mantissa_exponent(question.gold)
        one, other = ((value / Fraction(10) ** exponent if exponent else value) for value in (found.value, gold.value))
        if _near(one, other, question.precision) and round(other, question.precision) != 0:
            return round(one, question.precision) == round(other, question.precision)
    share, plain_one = (found, gold) if found.percent else (gold, found)
    as_share = share.percent and not plain_one.percent and share.value == 100 * plain_one.value
    return None if as_share else False


def _near(one: Fraction, other: Fraction, decimals: int) -> bool:
    """Whether two numbers differ by at most one unit of the last decimal. Integer arithmetic keeps it fast."""
    difference = abs(one.numerator * other.denominator - other.numerator * one.denominator)
    return difference * 10**decimals <= one.denominator * other.denominator
