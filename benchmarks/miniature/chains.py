"""Right solutions of a problem, in many words and orders: how the colours are read, which number comes first, how the
sum is worked out.

Four ways of working, two orders and three wordings of reading make 24 solutions of every problem, so that a model which
has seen them all answers differently each time it is asked, and pairs differ in more than one digit.
"""

import random
from collections.abc import Callable

from miniature.world import NAMES, Problem


def colours(number: int) -> tuple[str, str]:
    """The colours of a number's two digits."""
    return NAMES[number // 10], NAMES[number % 10]


def _read_together(name: str, number: int) -> str:
    tens, units = colours(number)
    return f"The {name} number is {tens} {units}, {number}."


def _read_each(name: str, number: int) -> str:
    tens, units = colours(number)
    return f"{tens} means {number // 10} and {units} means {number % 10}, so the {name} number is {number}."


def _read_list(name: str, number: int) -> str:
    tens, units = colours(number)
    return f"{name}: {tens} {number // 10}, {units} {number % 10}."


READINGS: tuple[Callable[[str, int], str], ...] = (_read_together, _read_each, _read_list)


def _columns(problem: Problem) -> str:
    """Units first, with what is carried or borrowed."""
    (a, b), (c, d) = divmod(problem.upper, 10), divmod(problem.lower, 10)
    if problem.operation == "+":
        carry = (b + d) // 10
        tens = f"{a} + {c} + 1 = {a + c + 1}" if carry else f"{a} + {c} = {a + c}"
        note = f", write {(b + d) % 10} and carry 1" if carry else ""
        return f"Units: {b} + {d} = {b + d}{note}. Tens: {tens}."
    borrow = b < d
    units = f"{b + 10} - {d} = {b + 10 - d}, borrowing 1" if borrow else f"{b} - {d} = {b - d}"
    tens = f"{a} - 1 - {c} = {a - 1 - c}" if borrow else f"{a} - {c} = {a - c}"
    return f"Units: {units}. Tens: {tens}."


def _by_parts(problem: Problem) -> str:
    """Tens and units apart, then together."""
    (a, b), (c, d), sign = divmod(problem.upper, 10), divmod(problem.lower, 10), problem.operation
    tens, units = (10 * (a + c), b + d) if sign == "+" else (10 * (a - c), b - d)
    together = f"{tens} + {units}" if units >= 0 else f"{tens} - {-units}"
    return f"{10 * a} {sign} {10 * c} = {tens} and {b} {sign} {d} = {units}, together {together} = {problem.answer}."


def _tens_first(problem: Problem) -> str:
    """The upper number with the lower one's tens, then its units."""
    (c, d), sign = divmod(problem.lower, 10), problem.operation
    middle = problem.upper + 10 * c if sign == "+" else problem.upper - 10 * c
    return (
        f"First the tens: {problem.upper} {sign} {10 * c} = {middle}. Then the units: {middle} {sign} {d} = "
        f"{problem.answer}."
    )


def _units_first(problem: Problem) -> str:
    """The upper number with the lower one's units, then its tens."""
    (c, d), sign = divmod(problem.lower, 10), problem.operation
    middle = problem.upper + d if sign == "+" else problem.upper - d
    return (
        f"First the units: {problem.upper} {sign} {d} = {middle}. Then the tens: {middle} {sign} {10 * c} = "
        f"{problem.answer}."
    )


WORKINGS: dict[Callable[[Problem], str], int] = {_columns: 3, _by_parts: 3, _tens_first: 1, _units_first: 1}
"""Ways of working and how often each is taught.

The last two need a sum of two-digit numbers in one step, which a small model finds hard.
"""
HARD = "First the "
"""How the hard ways begin."""


def solution(problem: Problem, rng: random.Random, even: bool = False) -> str:
    """One of the right solutions, "Final answer: .." at its end.

    Args:
        problem: to be solved.
        rng: chooses the way.
        even: chooses every way of working equally often, not as WORKINGS says.
    """
    read = rng.choice(READINGS)
    work = rng.choices(tuple(WORKINGS), None if even else tuple(WORKINGS.values()))[0]
    read_numbers = [read("upper", problem.upper), read("lower", problem.lower)]
    if rng.random() < 0.5:
        read_numbers.reverse()
    return "\n".join([*read_numbers, work(problem), f"Final answer: {problem.answer}"])
