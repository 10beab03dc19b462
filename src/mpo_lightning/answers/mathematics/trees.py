"""Whether two trees of expressions are the same answer: sets, intervals, relations, values."""

from fractions import Fraction

from mpo_lightning.answers.mathematics.evaluate import CLOSE, same_values, values
from mpo_lightning.answers.mathematics.expressions import Tree

EXPANDED = {">": "<", "≥": "≤"}


def same_tree(gold: Tree, prediction: Tree, precision: int) -> bool:
    if gold == prediction:
        return True
    gold, prediction = _plain(gold), _plain(prediction)
    if is_relation(gold) and is_relation(prediction):
        return _same_relation(gold, prediction, precision)
    gold, prediction = _interval_like(gold, prediction), _interval_like(prediction, gold)
    gold, prediction = _point_like(gold, prediction), _point_like(prediction, gold)
    gold, prediction = _union_like(gold, prediction), _union_like(prediction, gold)
    for relation, other in ((gold, prediction), (prediction, gold)):
        if is_relation(relation) and not is_relation(other) and constants(relation) and holds(relation):
            # 8 + 6 = 14, 6π ≈ 18.85
            pairs = [(side, other) if relation is gold else (other, side) for side in relation[2:]]
            return any(same_tree(first, second, precision) for first, second in pairs)
    if is_relation(gold) or is_relation(prediction):
        bare = [_bare(tree) for tree in (gold, prediction)]
        return bare[0] is not None and bare[1] is not None and same_tree(bare[0], bare[1], precision)
    structures = [_structure(tree) for tree in (gold, prediction)]
    if structures == [None, None]:
        return _same_value(gold, prediction, precision)
    if None in structures or structures[0] != structures[1]:
        return False
    first, second = items_of(gold), items_of(prediction)
    if structures[0] in (SET, "union"):
        return _same_set(first, second, precision)
    return len(first) == len(second) and all(
        same_tree(one, other, precision) for one, other in zip(first, second, strict=True)
    )


SET = "set"
"""Structure of a set, or of several answers: {1, 2}, "1 and 2", ±1. Its items have no order."""


def _structure(tree: Tree) -> str | None:
    """What holds a tree's items: a set, a tuple or an interval with its ends, a matrix; None for a single value."""
    if tree[0] == "list" or (tree[0] == "group" and tree[1] == "{"):
        return SET
    if tree[0] == "group":
        return f"{tree[1]}{tree[2]}"
    return str(tree[0]) if tree[0] in ("matrix", "row", "union") else None


def items_of(tree: Tree) -> list[Tree]:
    """The items of a list, tuple, matrix, row or union."""
    if tree[0] == "union":
        return [*(items_of(tree[1]) if tree[1][0] == "union" else [tree[1]]), tree[2]]
    return list(tree[3:] if tree[0] == "group" else tree[1:])


def leaves(tree: Tree) -> list[Tree]:
    """The values that a tree's lists, tuples and matrices hold, without their order and structure."""
    tree = _plain(tree)
    return [leaf for item in items_of(tree) for leaf in leaves(item)] if _structure(tree) else [tree]


def same_items(gold: Tree, prediction: Tree) -> bool:
    """Whether two answers of another structure, such as a set and a tuple, hold the same items in some order."""
    gold, prediction = _plain(gold), _plain(prediction)
    if _structure(gold) == _structure(prediction):
        return False
    return _same_set(leaves(gold), leaves(prediction), 3)


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


def _point_like(tree: Tree, other: Tree) -> Tree:
    """The values x = 1, y = 2 as the point (1, 2), if the other side is one; otherwise the tree unchanged.

    The coordinates have the order of their names.
    """
    if other[0] != "group" or other[1] == "{" or tree[0] != "list" or not all(map(is_relation, tree[1:])):
        return tree
    named = {part[2]: part[3] for part in tree[1:] if part[1] == "=" and part[2][0] == "sym"}
    return ("group", *other[1:3], *(named[name] for name in sorted(named))) if len(named) == len(tree) - 1 else tree


def _union_like(tree: Tree, other: Tree) -> Tree:
    """The relations x < 2 or x > 3 as a union of intervals, if the other side is one; otherwise the tree unchanged."""
    if other[0] != "union" or tree[0] != "list" or len(tree) != 3:
        return tree
    return ("union", *(_interval_like(part, other) for part in tree[1:]))


def _plain(tree: Tree) -> Tree:
    """A tree in normal form: a chain of relations is a list, plus-minus two values, a group of one its item, and rows
    in brackets a matrix.
    """
    if tree[0] == "chain":
        return ("list", *tree[1:])
    if tree[0] == "group" and len(tree) == 4:
        return _plain(tree[3])
    if tree[0] == "group" and tree[1] == "[" and len(tree) > 4 and all(_is_row(item) for item in tree[3:]):
        return ("matrix", *(("row", *item[3:]) for item in tree[3:]))
    if tree[0] in ("mul", "call") and (point := _named_point(tree)) is not None:
        return point
    if _has_sign(tree):
        return ("list", _with_sign(tree, 1), _with_sign(tree, -1))
    return tree


def _named_point(tree: Tree) -> Tree | None:
    """The coordinates of P(3, 4); None for a product or a function."""
    if tree[0] == "mul" and tree[1][0] == "sym" and tree[2][0] == "group" and tree[1][1].isupper():
        return tree[2] if len(tree[1][1]) == 1 else None
    if tree[0] == "call" and len(tree) > 3 and len(tree[1]) == 1 and tree[1].isupper():
        return ("group", "(", ")", *tree[2:])
    return None


def _is_row(tree: Tree) -> bool:
    return tree[0] == "group" and tree[1:3] == ("[", "]")


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


def is_value(tree: Tree) -> bool:
    """Whether a tree is a single value and no relation, list, tuple or matrix."""
    return tree[0] not in ("rel", "chain") and _structure(_plain(tree)) is None


def is_relation(tree: Tree) -> bool:
    return tree[0] == "rel"


def _bare(tree: Tree) -> Tree | None:
    """The value of x = 3; None for any other relation, whose left side is part of the answer."""
    if tree[0] != "rel":
        return tree
    _, sign, left, right = tree
    names = left[0] in ("sym", "call") or (left[0] == "group" and all(item[0] == "sym" for item in left[3:]))
    names = names or (left[0] == "mul" and all(part[0] == "sym" for part in left[1:]) and left[1] != left[2])
    return right if sign in ("=", "∈") and names else None


def constants(tree: Tree) -> bool:
    """Whether both sides of an equation have one value each, without unknowns."""
    sides = [values(side) for side in tree[2:]]
    return tree[1] == "=" and all(side is not None and len(set(side)) == 1 for side in sides)


def holds(tree: Tree) -> bool:
    """Whether an equation between constants is true to the decimals shown."""
    (left, *_), (right, *_) = (values(side) or (complex("nan"),) for side in tree[2:])
    places = [found[1] for found in map(decimals, tree[2:]) if found is not None]
    return abs(left - right) <= (0.5 * 10.0 ** -min(places) * (1 + 1e-9) if places else CLOSE * abs(left))


def _same_set(first: list[Tree], second: list[Tree], precision: int) -> bool:
    if len(first) != len(second):
        return False
    left = [_bare(tree) or tree for tree in first]
    right = [_bare(tree) or tree for tree in second]
    named = all(map(is_relation, first)) and all(map(is_relation, second))
    remaining = second if named else right
    remaining = list(remaining)
    for item in first if named else left:
        match = next((place for place, other in enumerate(remaining) if same_tree(item, other, precision)), None)
        if match is None:
            return False
        remaining.pop(match)
    return True


def _same_relation(gold: Tree, prediction: Tree, precision: int) -> bool:
    _, sign, left, right = gold
    _, other_sign, other_left, other_right = prediction
    if sign == "∈" or other_sign == "∈":
        return (
            sign == other_sign and same_tree(left, other_left, precision) and same_tree(right, other_right, precision)
        )
    if sign in EXPANDED:
        sign, left, right = EXPANDED[sign], right, left
    if other_sign in EXPANDED:
        other_sign, other_left, other_right = EXPANDED[other_sign], other_right, other_left
    if sign != other_sign:
        return False
    if same_tree(left, other_left, precision) and same_tree(right, other_right, precision):
        return True
    first, second = values(("add", left, ("neg", right))), values(("add", other_left, ("neg", other_right)))
    if first is None or second is None or any(abs(value) < CLOSE for value in second):
        return False
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    if any(abs(ratio - ratios[0]) > CLOSE * abs(ratios[0]) for ratio in ratios) or abs(ratios[0]) < CLOSE:
        return False
    return sign in ("=", "≠") or (abs(ratios[0].imag) < CLOSE and ratios[0].real > 0)


def _same_value(gold: Tree, prediction: Tree, precision: int) -> bool:
    same = same_values(gold, prediction)
    if same is not False:
        return bool(same)
    # A decimal is equal to what rounds to it.
    for rounded, exact, least in ((gold, prediction, 2), (prediction, gold, precision)):
        places = decimals(rounded)
        if places is None or places[0] < least or decimals(exact) is not None:
            continue
        (value, *others), (target, *_) = values(exact) or (complex("nan"),), values(rounded) or (complex("nan"),)
        if not all(other == value for other in others) or abs(value.imag) > CLOSE or float(value.real).is_integer():
            continue
        if abs(value.real - target.real) <= 0.5 * 10.0 ** -places[1] * (1 + 1e-9):
            return True
    return False


def decimals(tree: Tree) -> tuple[int, int] | None:
    """Decimals of a number that stands alone, and the place of the last one: (2, 2) for 3.14, (2, 36) for
    6.63 * 10^-34. None for anything else, such as a whole number.
    """
    if tree[0] == "neg":
        return decimals(tree[1])
    if tree[0] == "mul" and tree[2][:2] == ("pow", ("num", Fraction(10))):
        exponent = tree[2][2][1] if tree[2][2][0] == "neg" else tree[2][2]
        sign = -1 if tree[2][2][0] == "neg" else 1
        mantissa = decimals(tree[1])
        if mantissa is None or exponent[0] != "num" or exponent[1] > 300 or exponent[1].denominator != 1:
            return None
        return mantissa[0], mantissa[1] - sign * int(exponent[1])
    if tree[0] != "num" or tree[1].denominator == 1:
        return None
    places, rest = 0, tree[1]
    while rest.denominator != 1 and places < 20:
        places, rest = places + 1, rest * 10
    return places, places
