"""Checks a solution step by step: a line for each number that is read, one for the working, one for the answer."""

from dataclasses import dataclass

from miniature.chains import HARD, READINGS, WORKINGS
from miniature.world import Problem


@dataclass(frozen=True)
class Steps:
    """Which steps of a solution are present and right.

    Attributes:
        upper: the upper number is read from its colours.
        lower: the lower number likewise.
        worked: a way of working from these numbers, every equation, carry and loan of it.
        answered: the last line says the right answer.
        alone: the response says nothing else.
    """

    upper: bool
    lower: bool
    worked: bool
    answered: bool
    alone: bool

    @property
    def read(self) -> bool:
        """Whether the image was read rightly."""
        return self.upper and self.lower

    @property
    def sound(self) -> bool:
        """Whether it is a right solution from the first word to the last."""
        return self.read and self.worked and self.answered and self.alone


def check_steps(response: str, problem: Problem) -> Steps:
    """The steps of a response; each wording of each step that `chains` can write is known."""
    lines = response.strip().split("\n")
    upper, lower = (
        any(read(name, number) in lines[:2] for read in READINGS)
        for name, number in (("upper", problem.upper), ("lower", problem.lower))
    )
    worked = any(work(problem) in lines[2:3] for work in WORKINGS)
    return Steps(upper, lower, worked, lines[-1] == f"Final answer: {problem.answer}", len(lines) == 4)


def works_hard(response: str) -> bool:
    """Whether a response takes one of the hard ways of working, rightly or not."""
    return any(line.startswith(HARD) for line in response.split("\n"))
