"""Decides whether two pieces of mathematics are the same answer."""

import re
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.mathematics.expressions import Tree, parse
from mpo_lightning.answers.mathematics.trees import constants, holds, is_relation, same_tree
from mpo_lightning.answers.values.numbers import Number, parse_number, plain

MAYBE_UNIT = re.compile(r"\s*\$?(-?\d[\d.,]*)\s?(?:\\,)?[mgshlLNJWVACFKT]\$?\s*")
WORDED = re.compile(r"[^\\\\°%]*[A-Za-z]{2}[^\\\\°%]*")
DEGREES, RADIANS = re.compile(r"°|\\circ|\\degree|degrees"), re.compile(r"\\pi(?![a-z])|π|radians")
REPEATING = re.compile(r"[\s$]*(\d{0,9})\.(\d{0,9})\\(?:overline|bar|dot)\s*\{?\s*(\d{1,9})\s*\}?[\s$]*")


def equivalent(gold: str, prediction: str, precision: int | None = None) -> bool | None:
    """Whether a prediction equals the gold answer.

    - Numbers are equal as numbers: thousands separators, fractions, decimals.
    - Formulas are equal if they have the same values wherever their symbols are substituted.
    - Lists and sets are equal in any order, tuples and matrices entry by entry.
    - Equations and inequalities are equal up to a factor; x = 3 equals the bare value. A percent sign is a unit.
    - A decimal equals an exact number that rounds to it, with at least `precision` decimals, or two in the gold answer.

    Args:
        gold: the right answer in LaTeX or plain text.
        prediction: the answer to compare, likewise.
        precision: decimals from which a rounded number counts as exact; None means three.

    Returns:
        None if undecided: a side that is not understood, a percentage against its fraction of one, or too few decimals.
    """
    if _text(gold) == _text(prediction):
        return bool(_text(gold))
    gold, prediction = _repeating(gold), _repeating(prediction)
    first, second = parse_number(gold), parse_number(prediction)
    if first is None or second is None:
        first, second = _decimal_comma(gold) or first, _decimal_comma(prediction) or second
    if first is not None and second is not None:
        if first.value == second.value or _rounds_to(gold, prediction, first.value, second.value, precision=precision):
            return True
        # 75 % and 0.75: benchmarks disagree.
        return (
            None
            if first.percent != second.percent and first.value in (100 * second.value, second.value / 100)
            else False
        )
    gold, prediction = _without_words(gold), _without_words(prediction)
    left, right = _parsed(gold), _parsed(prediction)
    if left is None or right is None:
        return None
    if same_tree(left, right, 3 if precision is None else precision):
        return True
    if any(is_relation(tree) and constants(tree) and not holds(tree) for tree in (left, right)):
        return None  # 50% = 0.5, or a mistake
    if any(DEGREES.search(one) and RADIANS.search(other) for one, other in ((gold, prediction), (prediction, gold))):
        return None
    if any(
        (symbol := MAYBE_UNIT.fullmatch(one)) and _text(symbol[1]) == _text(other)
        for one, other in ((gold, prediction), (prediction, gold))
    ):
        return None  # 5m: five metres, or a product
    # 3.46 for 2√3: too few decimals to decide.
    return None if precision is None and same_tree(left, right, 1) else False


def _text(source: str) -> str:
    """An answer's text without case and markup that do not change its meaning."""
    source = re.sub(r"\\(?:text|mbox|mathrm|textbf)\s*\{([^{}]*)\}", r"\1", source[:4000])
    source = re.sub(r"\\(?:left|right|[,;!:])|\$|\\[()]", "", source).replace("\\ ", " ")
    # 3 1/2 is not 31/2.
    source = re.sub(r"(?<![\d.]) | (?![\d.])", "", re.sub(r"\s+", " ", source))
    source = re.sub(r"([_^])\{(\w)\}", r"\1\2", source.strip().rstrip(".").lower())
    return source[1:-1] if re.fullmatch(r"\([a-z]\)", source) else source


def _without_words(source: str) -> str:
    """A number in words as digits ("1/2 of the area", "one half"); any other text unchanged."""
    number = parse_number(source) if WORDED.fullmatch(source) else None
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


def _decimal_comma(source: str) -> Number | None:
    """The number in a text such as 1000,99, whose comma cannot separate thousands; otherwise None."""
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
