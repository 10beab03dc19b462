"""The verdict on a number: which number a response means, and whether it is the right one."""

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
from mpo_lightning.answers.values.numbers import Number, find_numbers, mantissa_exponent, parse_number, plain
from mpo_lightning.answers.values.units import units_differ


def number_verdict(text: str, question: Question) -> Verdict:
    """Compares the number that a response means with the right one."""
    said = announced(text)
    if said is not None and offers_alternative(said.text):
        numbers = {number.value for number in find_numbers(without_cause(said.text))}
        if len(numbers) > 1:
            return Verdict(None, said.text, None, f"{said.rule}/one of several")
    if said is not None and VAGUE.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/bound")
    found = number_in(said.text) if said else None
    if (
        found is None
        and said is not None
        and not is_bound(said.text)
        and equivalent(question.gold, said.text, question.precision)
    ):
        return Verdict(True, said.text, question.gold, f"{said.rule}/expression")
    if found is None and said is not None and SPAN.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/range")
    if said is not None and is_refusal(said.text) and (found is None or len(said.text) <= SHORT_REFUSAL):
        return Verdict(
            False if found is None else None,
            said.text,
            None,
            f"{said.rule}/refusal",
        )
    if found is None and said is not None and any(mark.isdigit() for mark in said.text):
        # An announced answer that is not a single number.
        return Verdict(None, said.text, None, f"{said.rule}/no single number")
    if found is None:
        said = said if said is not None and said.rule == "boxed" else None
        if (whole := parse_number(text)) is not None:
            said, found = Extraction(text, "number alone"), whole
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal")
        else:
            said = conclusion(text)
            found = number_in(said.text) if said else None
            if found is None:
                numbers_left = find_numbers(without_bounds(text))
                said, found = Extraction(text[-200:], "last number"), numbers_left[-1] if numbers_left else None
    if found is None or said is None:
        return Verdict(None, said.text if said else "", None, "no number found")
    if not question.gold[-1:].isdigit() and units_differ(question.gold, said.text):
        return Verdict(None, said.text, plain(found.value), f"{said.rule}/another unit")
    return Verdict(_same_number(found, question), said.text, plain(found.value), f"{said.rule}/number")


def _same_number(found: Number, question: Question) -> bool | None:
    gold = parse_number(question.gold)
    if gold is None:
        return None
    if found.value == gold.value:
        share = found.percent and not gold.percent and question.kind is Kind.FLOAT
        return None if share else True  # 0.5% for 0.5
    if question.kind is Kind.FLOAT and question.precision is not None:
        # 6.63e-34 is rounded in its mantissa.
        scale = Fraction(10) ** mantissa_exponent(question.gold)
        one, other = found.value / scale, gold.value / scale
        if _near(one, other, question.precision) and round(other, question.precision) != 0:
            return round(one, question.precision) == round(other, question.precision)
    return None if gold.percent and not found.percent and gold.value == 100 * found.value else False


def _near(one: Fraction, other: Fraction, decimals: int) -> bool:
    """Whether two numbers differ by at most one unit of the last decimal. Integer arithmetic keeps it fast."""
    difference = abs(one.numerator * other.denominator - other.numerator * one.denominator)
    return difference * 10**decimals <= one.denominator * other.denominator
