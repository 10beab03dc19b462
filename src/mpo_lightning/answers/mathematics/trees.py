"""Whether two trees of expressions are the same answer: sets, intervals, relations, values."""

from mpo_lightning.answers.mathematics.evaluate import values
from mpo_lightning.answers.mathematics.expressions import Tree

CLOSE = 1e-9
"""Largest relative difference between two expressions that count as equal."""
FLIPPED = {"<": ">", "≤": "≥", "=": "=", "≠": "≠"}
EXPANDED = {">": "<", "≥": "≤"}


def same_tree(gold: Tree, prediction: Tree, precision: int) -> bool:
    gold, prediction = _plain(gold), _plain(prediction)
    if is_relation(gold) and is_relation(prediction):
        return _same_relation(gold, prediction, precision)
    gold, prediction = _interval_like(gold, prediction), _interval_like(prediction, gold)
    for relation, other in ((gold, prediction), (prediction, gold)):
        if is_relation(relation) and not is_relation(other) and constants(relation) and holds(relation):
            # 8 + 6 = 14, 6π ≈ 18.85
            pairs = [(side, other) if relation is gold else (other, side) for side in relation[2:]]
            return any(same_tree(first, second, precision) for first, second in pairs)
    if is_relation(gold) or is_relation(prediction):
        bare = [_bare(tree) for tree in (gold, prediction)]
        return bare[0] is not None and bare[1] is not None and same_tree(bare[0], bare[1], precision)
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
            return same_ends and all(same_tree(*pair, precision) for pair in zip(first, second, strict=True))
        if gold[0] == prediction[0] == "group" and kinds[0] != kinds[1]:
            # (2,3) for {2,3}: equal only in this order
            return all(same_tree(*pair, precision) for pair in zip(first, second, strict=True))
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
