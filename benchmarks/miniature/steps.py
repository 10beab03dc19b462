"""Checks a solution step by step: what it says of colours and numbers against the picture, and every equation by itself."""

import re
from dataclasses import dataclass

from miniature.chains import colours
from miniature.world import NAMES, Problem

READ = re.compile(r"(?:^|[ :,])({names}) (?:means )?(\d)(?!\d)".format(names="|".join(NAMES)))
NAMED = re.compile(r"\b(upper|lower) number is (?:([a-z]+) ([a-z]+), )?(\d+)")
LISTED = re.compile(r"\b(upper|lower): ([a-z]+) (\d), ([a-z]+) (\d)")
EQUATION = re.compile(r"(-?\d+(?: [+-] -?\d+)+) = (-?\d+)")


@dataclass(frozen=True)
class Steps:
    """Steps of a solution.

    Attributes:
        seen: claims about the picture that are right, and all of them.
        worked: equations that are right, and all of them.
    """

    seen: tuple[int, int]
    worked: tuple[int, int]

    @property
    def sound(self) -> bool:
        """Whether both numbers were read, something was worked out, and nothing in it is wrong."""
        return self.seen[0] == self.seen[1] >= 2 and self.worked[0] == self.worked[1] >= 1


def check_steps(response: str, problem: Problem) -> Steps:
    """The steps of a response that can be recognised."""
    numbers = {"upper": problem.upper, "lower": problem.lower}
    seen = [NAMES.index(name) == int(digit) for name, digit in READ.findall(response)]
    for name, tens, units, number in NAMED.findall(response):
        seen.append(numbers[name] == int(number) and (not tens or (tens, units) == colours(numbers[name])))
    for name, tens, first, units, second in LISTED.findall(response):
        seen.append((tens, units) == colours(numbers[name]) and f"{first}{second}" == str(numbers[name]))
    worked = [_value(left) == int(right) for left, right in EQUATION.findall(response)]
    return Steps((sum(seen), len(seen)), (sum(worked), len(worked)))


def _value(left: str) -> int:
    """Of numbers joined by + and -."""
    first, *rest = left.split(" ")
    total = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        total += int(number) if sign == "+" else -int(number)
    return total
