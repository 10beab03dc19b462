"""Decides whether two numbers or formulas are the same answer."""

import re
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.mathematics.evaluate import NoNumber, same_values, value_at
from mpo_lightning.answers.mathematics.expressions import Tree, parse
from mpo_lightning.answers.mathematics.trees import constants, holds, is_relation, is_value, same_items, same_tree
from mpo_lightning.answers.values.number_words import Number
from mpo_lightning.answers.values.numbers import parse_number, plain

HUNDRED: Tree = ("num", Fraction(100))
MAYBE_UNIT = re.compile(r"\s*\$?(-?\d[\d.,]*)\s?(?:\\,)?[mgshlLNJWVACFKT]\$?\s*")
DEGREES, RADIANS = re.compile(r"°|\\circ|\\degree|degrees"), re.compile(r"\\pi(?![a-z])|π|radians")
GOES_ON = re.compile(r"[\s$]*(\d{0,9})\.(\d{1,15})\s?(?:\.{2,}|…|\\(?:ldots|dots|cdots))[\s$]*")
REPEATING = re.compile(r"[\s$]*(\d{0,9})\.(\d{0,9})\\(?:overline|bar|dot)\s*\{?\s*(\d{1,9})\s*\}?[\s$]*")


def same_mathematics(gold: str, prediction: str, precision: int | None) -> bool | None:
    """Whether a prediction equals a right answer that is a number or a formula; None if undecided.

    Args:
        gold: the right answer in LaTeX or plain text.
        prediction: the answer to compare, likewise.
        precision: decimals from which a rounded number counts as exact; None means three.
    """
    if (repeated := _repeating_dots(gold, prediction)) is not None:
        return repeated
    gold, prediction = _repeating(gold), _repeating(prediction)
    first, second = parse_number(gold), parse_number(prediction)
    if first is None or second is None:
        first, second = _decimal_comma(gold) or first, _decimal_comma(prediction) or second
    if first is not None and second is not None:
        return _same_numbers(gold, prediction, first, second, precision)
    left, right = _parsed(_without_words(gold)), _parsed(_without_words(prediction))
    if left is None or right is None:
        return None
    if same_tree(left, right, 3 if precision is None else precision):
        return True
    if any(is_relation(tree) and constants(tree) and not holds(tree) for tree in (left, right)):
        return None  # 50% = 0.5, or a mistake
    if any(number is not None and number.percent for number in (first, second)) and (
        same_tree(("mul", left, HUNDRED), right, 3) or same_tree(left, ("mul", right, HUNDRED), 3)
    ):
        return None
    if any(DEGREES.search(one) and RADIANS.search(other) for one, other in ((gold, prediction), (prediction, gold))):
        return None
    if any(
        (symbol := MAYBE_UNIT.fullmatch(one)) and symbol[1].replace(" ", "") == other.replace(" ", "").strip("$")
        for one, other in ((gold, prediction), (prediction, gold))
    ):
        return None  # 5m: five metres, or a product
    if same_items(left, right) or (is_value(left) and is_value(right) and same_values(left, right) is None):
        return None
    # 3.46 for 2√3: too few decimals to decide.
    return None if precision is None and same_tree(left, right, 1) else False


def _same_numbers(gold: str, prediction: str, first: Number, second: Number, precision: int | None) -> bool | None:
    if first.value == second.value and first.percent == second.percent:
        return True
    if first.value == second.value and second.percent and abs(first.value) <= 1:
        return None  # 0.5% for 0.5
    if first.value == second.value or _rounds_to(gold, prediction, first.value, second.value, precision=precision):
        return True
    # 75 % and 0.75: benchmarks disagree.
    return (
        None if first.percent != second.percent and first.value in (100 * second.value, second.value / 100) else False
    )


def _without_words(source: str) -> str:
    """A number in words or with a unit as digits ("1/2 of the area", "one half", "6 A"); any other text unchanged."""
    number = parse_number(source)
    return plain(number.value) if number else source


def _repeating(source: str) -> str:
    r"""A repeating decimal as a fraction (0.1\overline{6} is 1/6); any other text unchanged."""
    found = REPEATING.fullmatch(source) if "\\" in source else None
    if found is None:
        return source
    whole, fixed, repeated = found[1] or "0", found[2], found[3]
    value = Fraction(int(whole + fixed), 10 ** len(fixed)) + Fraction(
        int(repeated), 10 ** len(fixed) * (10 ** len(repeated) - 1)
    )
    return f"{value.numerator}/{value.denominator}"


def _repeating_dots(gold: str, prediction: str) -> bool | None:
    """Compares a decimal that goes on (0.1666...) with an exact value by its digits; None if there is no such pair."""
    for one, other in ((gold, prediction), (prediction, gold)):
        found, exact = GOES_ON.fullmatch(one), _parsed(_repeating(_without_words(other)))
        if found is None or exact is None or GOES_ON.fullmatch(other) or len(found[2]) < 3:
            continue
        try:
            value = value_at(exact, 0)
        except (NoNumber, ArithmeticError, ValueError, TypeError):
            return None
        shown, last = Fraction(f"{found[1] or 0}.{found[2]}"), Fraction(1, 10 ** len(found[2]))
        return bool(isinstance(value, Fraction | complex) and -last / 2 <= Fraction(complex(value).real) - shown < last)
    return None


def _decimal_comma(source: str) -> Number | None:
    """The number in a text such as 1000,99, whose comma cannot separate thousands; otherwise None."""
    found = re.fullmatch(r"[^\d(\[{]*?(-?\d{1,3}(?:\.\d{3})+),(\d{1,3})[^\d)\]}]{0,12}", source)  # 1.234,50
    if found:
        return parse_number(f"{found[1].replace('.', '')}.{found[2]}")
    found = re.fullmatch(r"[^\d(\[{]*?(-?\d+),(\d{1,2}|\d{4,10})[^\d)\]}]{0,12}", source)
    return parse_number(f"{found[1]}.{found[2]}") if found else None


def _rounds_to(gold: str, prediction: str, first: Fraction, second: Fraction, precision: int | None) -> bool:
    for source, rounded, exact in ((gold, first, second), (prediction, second, first)):
        decimals = re.search(r"\.(\d+)", source)
        other = prediction if source is gold else gold
        if decimals and "." not in other and "/" in other + "/" * ("frac" in other) and exact.denominator > 1:
            places = len(decimals[1])
            if ((source is gold and places > 1) or places >= (3 if precision is None else precision)) and round(
                exact, places
            ) == rounded:
                return True
    return False


@lru_cache(maxsize=4096)
def _parsed(source: str) -> Tree | None:
    return parse(source)
