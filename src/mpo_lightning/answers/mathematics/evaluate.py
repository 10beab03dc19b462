"""Evaluates an expression at given values of its symbols.

Two expressions are equal if they have the same values at several points (the identity test of Schwartz and Zippel).
This needs no algebra system, executes no input, and takes time proportional to the expression. A part without a value
(a sum over k, an unknown function) gets one from a hash of its parts, so it equals itself in any order of terms.
"""

import cmath
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

from mpo_lightning.answers.mathematics.expressions import Tree

POINTS = 3
MAX_POWER, MAX_BITS = 5_000, 50_000
"""Largest exponent of an exact power and largest size of its result in bits; a larger power has no value."""
DIGITS = 60
"""Decimal digits with which values that agree as floats are compared again."""
CLOSE, TINY = 1e-9, 1e-12
"""Relative and absolute difference of floats above which two values differ for certain."""

Value = Any
"""A Fraction if the value is exact, otherwise a complex number of the arithmetic in use."""


class NoNumber(Exception):
    """Raised for an expression without a numeric value."""


@dataclass(frozen=True)
class Arithmetic:
    """Arithmetic for what is not a fraction: of the machine, fast, or of many digits.

    Attributes:
        number: makes a complex number.
        functions: log, log10, exp, sqrt and the trigonometric functions by these names.
        pi: the circle's number.
        e: the base of natural logarithms.
    """

    number: Callable[..., Any]
    functions: Any
    pi: Any
    e: Any

    def exact(self, value: Fraction) -> Any:
        """Returns a fraction in this arithmetic."""
        return self.number(value.numerator) / value.denominator if self is not FLOATS else complex(value)


FLOATS = Arithmetic(complex, cmath, math.pi, math.e)
MANY = mpmath.mp.clone()
MANY.dps = DIGITS
MANY_DIGITS = Arithmetic(MANY.mpc, MANY, +MANY.pi, +MANY.e)


def values(tree: Tree) -> tuple[complex, ...] | None:
    """The values of an expression at `POINTS` points; None if it has none."""
    try:
        found = tuple(complex(value_at(tree, point)) for point in range(POINTS))
    except (NoNumber, ArithmeticError, ValueError, TypeError):
        return None
    return found if all(cmath.isfinite(value) for value in found) else None


def same_values(first: Tree, second: Tree) -> bool | None:
    """Whether two expressions have the same value at every point; None if one of them has no value.

    Fractions are compared exactly. What agrees as floats is computed again with many digits.
    """
    try:
        pairs = [(value_at(first, point), value_at(second, point)) for point in range(POINTS)]
        if not all(_alike(one, other) for one, other in pairs):
            return False
        if all(isinstance(value, Fraction) for pair in pairs for value in pair):
            return True
        if not all(cmath.isfinite(complex(value)) for pair in pairs for value in pair):
            return None
        exact = [
            [MANY_DIGITS.number(_in(MANY_DIGITS, value_at(tree, point, MANY_DIGITS))) for tree in (first, second)]
            for point in range(POINTS)
        ]
    except (NoNumber, ArithmeticError, ValueError, TypeError):
        return None
    tiny = MANY.mpf(10) ** (10 - DIGITS)
    return all(abs(one - other) <= tiny * max(abs(one), abs(other), 1e-9) for one, other in exact)


def _alike(one: Value, other: Value) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    one, other = complex(one), complex(other)
    return abs(one - other) <= max(CLOSE * max(abs(one), abs(other)), TINY)


def _in(arithmetic: Arithmetic, value: Value) -> Any:
    return arithmetic.exact(value) if isinstance(value, Fraction) else value


def value_at(tree: Tree, point: int, arithmetic: Arithmetic = FLOATS) -> Value:
    """The value of an expression at one point, exact if it contains only whole numbers and fractions.

    Raises:
        NoNumber: a relation, a list or a matrix.
        ArithmeticError: too large, or a division by zero.
    """
    head = tree[0]
    if head == "num":
        return Fraction(tree[1])
    if head == "sym":
        return _symbol(tree[1], point, arithmetic)
    if head == "neg":
        return -value_at(tree[1], point, arithmetic)
    if head == "percent":
        return value_at(tree[1], point, arithmetic)
    if head == "fact":
        return _factorial(value_at(tree[1], point, arithmetic))
    if head == "call":
        return _call(tree[1], tree[2:], point, arithmetic)
    if head not in ("add", "mul", "div", "pow"):
        raise NoNumber
    if (head == "add" and tree[2][0] == "pm") or tree[1][0] == "pm":
        raise NoNumber
    left, right = value_at(tree[1], point, arithmetic), value_at(tree[2], point, arithmetic)
    if head == "pow":
        return _power(left, right, arithmetic, cube_root=tree[2][0] == "div" and tree[2][2] == ("num", Fraction(3)))
    if not (isinstance(left, Fraction) and isinstance(right, Fraction)):
        left, right = _in(arithmetic, left), _in(arithmetic, right)
    return left + right if head == "add" else left * right if head == "mul" else left / right


def _symbol(name: str, point: int, arithmetic: Arithmetic) -> Value:
    if name in ("pi", "Pi"):
        return arithmetic.number(arithmetic.pi)
    if name == "e":
        return arithmetic.number(arithmetic.e)
    return arithmetic.number(0, 1) if name == "i" else arithmetic.number(_hashed(name, point))


def _power(left: Value, right: Value, arithmetic: Arithmetic, cube_root: bool) -> Value:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if right.denominator == 1:
            bits = max(left.numerator.bit_length(), left.denominator.bit_length())
            if abs(right) > MAX_POWER or abs(right) * bits > MAX_BITS:
                raise NoNumber
            return left**right
        if left >= 0 and right == Fraction(1, 2) and (root := _exact_root(left)) is not None:
            return root
    left, right = _in(arithmetic, left), _in(arithmetic, right)
    if cube_root and left.imag == 0 and left.real < 0:
        return arithmetic.number(-((-left.real) ** right.real))  # the real cube root
    return left**right


def _exact_root(value: Fraction) -> Fraction | None:
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    return Fraction(above, below) if (above**2, below**2) == (value.numerator, value.denominator) else None


FUNCTIONS = {
    "ln": "log",
    "log": "log",
    "lg": "log10",
    "exp": "exp",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
}
INVERSE = {"cot": "tan", "sec": "cos", "csc": "sin"}


def _call(name: str, arguments: tuple[Any, ...], point: int, arithmetic: Arithmetic) -> Value:
    if name == "binom":
        above, below = (value_at(argument, point, arithmetic) for argument in arguments)
        return _binomial(above, below, arithmetic)
    if name in ("sum", "prod", "int", "lim", "bigcup"):
        return arithmetic.number(_hashed(name + "".join(_named(argument, point) for argument in arguments), point))
    found = [value_at(argument, point, arithmetic) for argument in arguments]
    exact = all(isinstance(value, Fraction) for value in found)
    if name == "abs" and exact:
        return abs(found[0])
    if name in ("floor", "ceil") and exact:
        return Fraction((math.floor if name == "floor" else math.ceil)(found[0]))
    if name in ("max", "min") and found:
        real = found if exact else [_in(arithmetic, value).real for value in found]
        return (max if name == "max" else min)(real)
    numbers = [_in(arithmetic, value) for value in found]
    functions = arithmetic.functions
    if name == "abs":
        return arithmetic.number(abs(numbers[0]))
    if name in ("log", "lg", "ln") and len(numbers) == 2:
        return functions.log(numbers[0]) / functions.log(numbers[1])
    if name in ("floor", "ceil") and abs(numbers[0].imag) < 1e-12:
        return Fraction(int((math.floor if name == "floor" else math.ceil)(numbers[0].real)))
    if name in FUNCTIONS and len(numbers) == 1:
        return getattr(functions, FUNCTIONS[name])(numbers[0])
    if name in INVERSE and len(numbers) == 1:
        return 1 / getattr(functions, INVERSE[name])(numbers[0])
    return arithmetic.number(_hashed(name + "".join(_rounded(complex(number)) for number in numbers), point))


def _binomial(above: Value, below: Value, arithmetic: Arithmetic) -> Value:
    """A binomial coefficient; its lower number is a small whole one, its upper one anything."""
    if not isinstance(below, Fraction) or below.denominator != 1 or not 0 <= below <= 500:
        raise NoNumber
    product: Value = Fraction(1)
    above = above if isinstance(above, Fraction) else _in(arithmetic, above)
    for place in range(int(below)):
        product = product * (above - place) / (place + 1)
    return product


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
