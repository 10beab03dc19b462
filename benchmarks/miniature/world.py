"""A small world of visual-reasoning problems: two numbers in colours, to be added or subtracted.

An image of 56 x 56 pixels shows four patches, two above two. A patch's colour is a digit, as on electrical resistors
(black 0, brown 1, ... white 9), so that the upper patches are a number of two digits and the lower ones another. Light,
places, sizes and colours of patches vary, and every pixel has noise.

Why this world: the model has to see the image and know its colours; an answer is one of about 200, so a guess is right
once in fifty to a hundred times; and every step of a solution can be checked by itself (`steps.py`). Problem `n`
of a seed is the same on every machine.
"""

import io
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

SIDE = 56
COLOURS = {
    "black": (22, 22, 22),
    "brown": (115, 70, 35),
    "red": (205, 40, 40),
    "orange": (245, 135, 30),
    "yellow": (240, 220, 50),
    "green": (45, 155, 65),
    "blue": (45, 75, 205),
    "violet": (140, 65, 180),
    "grey": (135, 135, 135),
    "white": (240, 240, 240),
}
NAMES = tuple(COLOURS)
"""Colours by digit."""

QUESTIONS = {
    "+": (
        "What is the upper number plus the lower number?",
        "Add the two numbers in the picture.",
        "What is the sum of the upper and the lower number?",
    ),
    "-": (
        "What is the upper number minus the lower number?",
        "Subtract the lower number from the upper number.",
        "How much larger is the upper number than the lower number?",
    ),
}


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        number: number within its seed; names the image.
        upper: the number above, 10 to 99.
        lower: the number below, 10 to 99; not larger than `upper` if it is subtracted.
        operation: the operation of the question.
        question: the question's text.
    """

    number: int
    upper: int
    lower: int
    operation: Literal["+", "-"]
    question: str

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.upper + self.lower if self.operation == "+" else self.upper - self.lower


def draw_problem(seed: int, number: int) -> Problem:
    """Problem `number` of a seed."""
    rng = random.Random(f"{seed} {number}")
    operation: Literal["+", "-"] = rng.choice(("+", "-"))
    upper, lower = rng.randint(10, 99), rng.randint(10, 99)
    if operation == "-" and upper < lower:
        upper, lower = lower, upper
    return Problem(number, upper, lower, operation, rng.choice(QUESTIONS[operation]))


def draw_picture(problem: Problem, seed: int) -> bytes:
    """The problem's image as JPEG."""
    rng = np.random.default_rng([seed, problem.number])
    light = rng.uniform(0.8, 1.08)
    pixels = np.empty((SIDE, SIDE, 3))
    pixels[:] = rng.uniform(165, 205) + rng.uniform(-8, 8, 3)
    half = SIDE // 2
    for place, digit in enumerate(map(int, f"{problem.upper}{problem.lower}")):
        top, left = half * (place // 2), half * (place % 2)
        height, width = rng.integers(15, 23, 2)
        y, x = top + rng.integers(1, half - height), left + rng.integers(1, half - width)
        pixels[y : y + height, x : x + width] = np.array(COLOURS[NAMES[digit]]) + rng.uniform(-9, 9, 3)
    pixels = pixels * light + rng.normal(0, 6, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()
