"""Decides whether two pieces of mathematics are the same answer."""

import re
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.evaluate import values
from mpo_lightning.answers.expressions import Tree, parse
from mpo_lightning.answers.numbers import Number, parse_number, plain

CLOSE = 1e-9
"""Largest relative difference between two expressions that count as equal."""
FLIPPED = {"<": ">", "≤": "≥", "=": "=", "≠": "≠"}
EXPANDED = {">": "<", "≥": "≤"}
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
        if first.value == second.value or _rounds_to(gold, prediction, first.value, second.value, precision):
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
    if _same(left, right, 3 if precision is None else precision):
        return True
    if any(_is_relation(tree) and _constants(tree) and not _holds(tree) for tree in (left, right)):
        return None  # 50% = 0.5, or a mistake
    if any(DEGREES.search(one) and RADIANS.search(other) for one, other in ((gold, prediction), (prediction, gold))):
        return None
    if any(
        (symbol := MAYBE_UNIT.fullmatch(one)) and _text(symbol[1]) == _text(other)
        for one, other in ((gold, prediction), (prediction, gold))
    ):
        return None  # 5m: five metres, or a product
    # 3.46 for 2√3: too few decimals to decide.
    return None if precision is None and _same(left, right, 1) else False


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


def _same(gold: Tree, prediction: Tree, precision: int) -> bool:
    gold, prediction = _plain(gold), _plain(prediction)
    if _is_relation(gold) and _is_relation(prediction):
        return _same_relation(gold, prediction, precision)
    gold, prediction = _interval_like(gold, prediction), _interval_like(prediction, gold)
    for relation, other in ((gold, prediction), (prediction, gold)):
        if _is_relation(relation) and not _is_relation(other) and _constants(relation) and _holds(relation):
            # 8 + 6 = 14, 6π ≈ 18.85
            pairs = [(side, other) if relation is gold else (other, side) for side in relation[2:]]
            return any(_same(first, second, precision) for first, second in pairs)
    if _is_relation(gold) or _is_relation(prediction):
        bare = [_bare(tree) for tree in (gold, prediction)]
        return bare[0] is not None and bare[1] is not None and _same(bare[0], bare[1], precision)
    first, second = _items(gold), _items(prediction)
    if first is not None or second is not None:
        if first is None or second is None:
            return False
        kinds = (_ordered(gold), _ordered(prediction))
        if len(first) != len(second):
            return False
        if gold[0] == prediction[0] == "union":
            return _same_set(first, second, precision)
        if kinds == (True, True):
            same_ends = gold[0] != "group" or prediction[0] != "group" or gold[1:3] == prediction[1:3]
            return same_ends and all(_same(*pair, precision) for pair in zip(first, second, strict=True))
        if gold[0] == prediction[0] == "group" and kinds[0] != kinds[1]:
            # (2,3) for {2,3}: equal only in this order
            return all(_same(*pair, precision) for pair in zip(first, second, strict=True))
        return _same_set(first, second, precision)
    return _same_value(gold, prediction, precision)


INFINITY: Tree = ("sym", "infty")


def _interval_like(tree: Tree, other: Tree) -> Tree:
    """The relation x > 3 or 1 < x ≤ 3 as an interval, if the other side is one; otherwise the tree unchanged."""
    if other[0] not in ("group", "union") or (other[0] == "group" and other[1] not in "(["):
        return tree
    if tree[0] == "rel" and tree[1] in "<>≤≥" and tree[2][0] == "sym":
        closed = tree[1] in "≤≥"
        if tree[1] in "<≤":
            return ("group", "(", "]" if closed else ")", ("neg", INFINITY), tree[3])
        return ("group", "[" if closed else "(", ")", tree[3], INFINITY)
    if tree[0] == "list" and len(tree) == 3 and all(part[0] == "rel" and part[1] in "<≤" for part in tree[1:]):
        (_, first, low, middle), (_, second, again, high) = tree[1:]
        if middle == again and middle[0] == "sym":
            return ("group", "[" if first == "≤" else "(", "]" if second == "≤" else ")", low, high)
    return tree


def _plain(tree: Tree) -> Tree:
    """A tree in normal form: a chain of relations is a list, plus-minus two values, a group of one its item."""
    if tree[0] == "chain":
        return ("list", *tree[1:])
    if tree[0] == "group" and len(tree) == 4:
        return _plain(tree[3])
    if _has_sign(tree):
        return ("list", _with_sign(tree, 1), _with_sign(tree, -1))
    return tree


def _has_sign(tree: Tree) -> bool:
    return tree[0] == "pm" or (
        tree[0] in ("add", "mul", "div", "neg", "pow") and any(_has_sign(part) for part in tree[1:])
    )


def _with_sign(tree: Tree, sign: int) -> Tree:
    if tree[0] == "pm":
        inner = _with_sign(tree[1], sign)
        return inner if sign > 0 else ("neg", inner)
    if tree[0] in ("add", "mul", "div", "neg", "pow"):
        return (tree[0], *(_with_sign(part, sign) for part in tree[1:]))
    return tree


def _is_relation(tree: Tree) -> bool:
    return tree[0] == "rel"


def _bare(tree: Tree) -> Tree | None:
    """The value of x = 3; None for any other relation, whose left side is part of the answer."""
    if tree[0] != "rel":
        return tree
    _, sign, left, right = tree
    names = left[0] in ("sym", "call") or (left[0] == "group" and all(item[0] == "sym" for item in left[3:]))
    names = names or (left[0] == "mul" and all(part[0] == "sym" for part in left[1:]) and left[1] != left[2])
    return right if sign in ("=", "∈") and names else None


def _constants(tree: Tree) -> bool:
    """Whether both sides of an equation have one value each, without unknowns."""
    sides = [values(side) for side in tree[2:]]
    return tree[1] == "=" and all(side is not None and len(set(side)) == 1 for side in sides)


def _holds(tree: Tree) -> bool:
    """Whether an equation between constants is true to the decimals shown."""
    (left, *_), (right, *_) = (values(side) or (complex("nan"),) for side in tree[2:])
    places = [places for places in map(_decimals, tree[2:]) if places is not None]
    return abs(left - right) <= (0.5 * 10.0 ** -min(places) * (1 + 1e-9) if places else CLOSE * abs(left))


def _items(tree: Tree) -> list[Tree] | None:
    if tree[0] == "list":
        return list(tree[1:])
    if tree[0] == "group":
        return list(tree[3:])
    if tree[0] == "matrix":
        return list(tree[1:])
    if tree[0] == "union":
        return [*(_items(tree[1]) or [tree[1]] if tree[1][0] == "union" else [tree[1]]), tree[2]]
    return None


def _ordered(tree: Tree) -> bool:
    return tree[0] == "matrix" or (tree[0] == "group" and tree[1] in "([")


def _same_set(first: list[Tree], second: list[Tree], precision: int) -> bool:
    left = [_bare(tree) or tree for tree in first]
    right = [_bare(tree) or tree for tree in second]
    named = all(map(_is_relation, first)) and all(map(_is_relation, second))
    remaining = second if named else right
    remaining = list(remaining)
    for item in first if named else left:
        match = next((place for place, other in enumerate(remaining) if _same(item, other, precision)), None)
        if match is None:
            return False
        remaining.pop(match)
    return True


def _same_relation(gold: Tree, prediction: Tree, precision: int) -> bool:
    _, sign, left, right = gold
    _, other_sign, other_left, other_right = prediction
    if sign == "∈" or other_sign == "∈":
        return sign == other_sign and _same(left, other_left, precision) and _same(right, other_right, precision)
    if sign in EXPANDED:
        sign, left, right = EXPANDED[sign], right, left
    if other_sign in EXPANDED:
        other_sign, other_left, other_right = EXPANDED[other_sign], other_right, other_left
    if sign != other_sign:
        return False
    if _same(left, other_left, precision) and _same(right, other_right, precision):
        return True
    first, second = values(("add", left, ("neg", right))), values(("add", other_left, ("neg", other_right)))
    if first is None or second is None or any(abs(value) < CLOSE for value in second):
        return False
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    if any(abs(ratio - ratios[0]) > CLOSE * abs(ratios[0]) for ratio in ratios) or abs(ratios[0]) < CLOSE:
        return False
    return sign in ("=", "≠") or (abs(ratios[0].imag) < CLOSE and ratios[0].real > 0)


def _same_value(gold: Tree, prediction: Tree, precision: int) -> bool:
    first, second = values(gold), values(prediction)
    if first is None or second is None:
        return False
    if all(
        abs(one - other) <= CLOSE * max(abs(one), abs(other), 1e-6) for one, other in zip(first, second, strict=True)
    ):
        return True
    for rounded, exact, is_gold in ((gold, second, True), (prediction, first, False)):
        places = _decimals(rounded)
        if places is not None and _decimals(prediction if is_gold else gold) is None and abs(exact[0].imag) < CLOSE:
            if exact[0] != exact[1] or not ((is_gold and places > 1) or places >= precision):
                continue
            target = (first if is_gold else second)[0].real
            if not float(exact[0].real).is_integer() and abs(exact[0].real - target) <= 0.5 * 10.0**-places * (
                1 + 1e-9
            ):
                return True
    return False


def _decimals(tree: Tree) -> int | None:
    """Number of decimals of a number that stands alone; None for anything else."""
    if tree[0] == "neg":
        return _decimals(tree[1])
    if tree[0] != "num" or tree[1].denominator == 1:
        return None
    places, rest = 0, tree[1]
    while rest.denominator != 1 and places < 20:
        places, rest = places + 1, rest * 10
    return places
