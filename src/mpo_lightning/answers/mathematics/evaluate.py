"""Evaluates an expression at given values of its symbols.

Two expressions are equal if they have the same values at several points (the identity test of Schwartz and Zippel).
This needs no algebra system, executes no input, and takes time proportional to the expression. A part without a value
(a sum over k, an unknown function) gets one from a hash of its parts, so it equals itself in any order of terms.
"""

import cmath
import hashlib
import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpo_lightning.answers.mathematics.expressions import Tree

POINTS = 3
MAX_POWER, MAX_BITS = 5_000, 50_000
"""Largest exponent of an exact power and largest size of its result in bits; a larger power has no value."""
CONSTANTS = {"pi": math.pi, "e": math.e, "i": 1j, "Pi": math.pi}


class NoNumber(Exception):
    """Raised for an expression without a numeric value."""


def values(tree: Tree) -> tuple[complex, ...] | None:
    """The values of an expression at `POINTS` points; None if it has none."""
    try:
        found = tuple(complex(value_at(tree, point)) for point in range(POINTS))
    except (NoNumber, ArithmeticError, ValueError, TypeError):
        return None
    return found if all(cmath.isfinite(value) for value in found) else None


Value = complex | Fraction


def value_at(tree: Tree, point: int) -> Value:
    """The value of an expression at one point, exact if it contains only whole numbers and fractions.

    Raises:
        NoNumber: a relation, a list or a matrix.
        ArithmeticError: too large, or a division by zero.
    """
    head = tree[0]
    if head == "num":
        return Fraction(tree[1])
    if head == "sym":
        return CONSTANTS[tree[1]] if tree[1] in CONSTANTS else _hashed(tree[1], point)
    if head == "neg":
        return -value_at(tree[1], point)
    if head == "percent":
        return value_at(tree[1], point)
    if head == "fact":
        return _factorial(value_at(tree[1], point))
    if head == "call":
        return _call(tree[1], tree[2:], point)
    if head not in ("add", "mul", "div", "pow"):
        raise NoNumber
    if (head == "add" and tree[2][0] == "pm") or tree[1][0] == "pm":
        raise NoNumber
    left, right = value_at(tree[1], point), value_at(tree[2], point)
    if head == "add":
        return left + right
    if head == "mul":
        return left * right
    if head == "div":
        return left / right
    if isinstance(left, Fraction) and isinstance(right, Fraction) and right.denominator == 1:
        if (
            abs(right) > MAX_POWER
            or abs(right) * max(left.numerator.bit_length(), left.denominator.bit_length()) > MAX_BITS
        ):
            raise NoNumber
        return left**right
    if isinstance(left, float | Fraction) and left < 0 and tree[2][0] == "div" and tree[2][2] == ("num", Fraction(3)):
        return complex(-(float(-left) ** right.real))  # the real cube root
    return complex(left) ** complex(right)


def _call(name: str, arguments: tuple[Any, ...], point: int) -> Value:
    if name == "binom":
        above, below = (value_at(argument, point).real for argument in arguments)
        return (
            float(math.comb(int(above), int(below)))
            if 0 <= below <= above <= 500
            else _hashed(f"{name}{above}{below}", point)
        )
    if name in ("sum", "prod", "int", "lim", "bigcup"):
        return _hashed(name + "".join(_named(argument, point) for argument in arguments), point)
    numbers = [complex(value_at(argument, point)) for argument in arguments]
    if name == "abs":
        return abs(numbers[0])
    if name in ("log", "lg", "ln") and len(numbers) == 2:
        return cmath.log(numbers[0]) / cmath.log(numbers[1])
    if name in ("floor", "ceil") and abs(numbers[0].imag) < 1e-12:
        return Fraction((math.floor if name == "floor" else math.ceil)(numbers[0].real))
    if name == "lg":
        return cmath.log10(numbers[0])
    functions = {
        "ln": cmath.log,
        "log": cmath.log,
        "exp": cmath.exp,
        "sin": cmath.sin,
        "cos": cmath.cos,
        "tan": cmath.tan,
        "arcsin": cmath.asin,
        "arccos": cmath.acos,
        "arctan": cmath.atan,
        "sinh": cmath.sinh,
        "cosh": cmath.cosh,
        "tanh": cmath.tanh,
    }
    if name in functions and len(numbers) == 1:
        return functions[name](numbers[0])
    if name in ("cot", "sec", "csc") and len(numbers) == 1:
        return 1 / {"cot": cmath.tan, "sec": cmath.cos, "csc": cmath.sin}[name](numbers[0])
    if name in ("max", "min") and numbers:
        return (max if name == "max" else min)(number.real for number in numbers)
    return _hashed(name + "".join(map(_rounded, numbers)), point)


def _named(tree: Tree, point: int) -> str:
    if tree[0] == "rel":
        return tree[1] + _named(tree[2], point) + _named(tree[3], point)
    return _rounded(complex(value_at(tree, point)))


def _rounded(value: complex) -> str:
    return f"({value.real:.9e},{value.imag:.9e})".replace("-0.000000000e+00", "0.000000000e+00")


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= 500:
        return Fraction(math.factorial(int(value)))
    real = complex(value).real
    if abs(complex(value).imag) > 0 or real > 170 or real < 0:
        raise NoNumber
    return math.gamma(real + 1)


@lru_cache(maxsize=4096)
def _hashed(name: str, point: int) -> float:
    """A pseudo-random value for each name and point: between 0.5 and 2.5 at the first point, negative at the second,
    above 3.2 at the third. So |x| differs from x, and arcsin(sin x) does too.
    """
    digest = hashlib.blake2b(f"{point}{name}".encode(), digest_size=8).digest()
    number = 0.5 + 2 * int.from_bytes(digest) / 2**64
    return (number, -number, 2.7 + number)[point]
