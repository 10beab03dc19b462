"""What is compared: base models, pair sets, and the conditions under which it may come out differently."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A base model.

    Attributes:
        number: also its seed.
        even: it was taught every way of working equally often, the hard ones too, so that it has reliable ways and unreliable ones; it takes twice the steps to learn.
    """

    number: int
    even: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"base-{self.number}" + ("-even" if self.even else "")

    @property
    def seed(self) -> int:
        """Of its responses."""
        return 100 * self.number + (50 if self.even else 0)


@dataclass(frozen=True)
class Cell:
    """One comparison of all methods: a base, a pair set of its responses, and a condition.

    Attributes:
        base: which is trained.
        pair_set: whose questions its pairs are about.
        condition: which of CONDITIONS; "" is the study's own way.
    """

    base: Base
    pair_set: int
    condition: str = ""

    @property
    def name(self) -> str:
        """Of its folder."""
        own = self.condition not in ("", "even")
        return f"cell-{self.base.name.removeprefix('base-')}-{self.pair_set}" + (f"-{self.condition}" if own else "")

    @property
    def pairs(self) -> str:
        """The folder of the cell whose responses and pairs it starts from."""
        return self.name if self.condition in SWEPT else Cell(self.base, self.pair_set).name

    @property
    def epochs(self) -> int:
        """How often the pairs are seen."""
        return 3 if self.condition == "epochs" else 1

    @property
    def temperature(self) -> float:
        """Of the responses that pairs are made of."""
        return 0.5 if self.condition == "cool" else 1.0


SWEPT = ("cool", "even")
"""Conditions with responses and a sweep of their own, over the corners of the study's; the others take those of base 0 and pair set 0, and the settings that were chosen there."""

CONDITIONS = {
    "cool": "responses drawn at temperature 0.5, so that the wrong ones are nearer to what the base says greedily",
    "close": "of all pairs of right and wrong of a question the two at most whose sides differ least, no DropoutNTP",
    "far": "of all pairs of right and wrong of a question the two at most whose sides differ most, no DropoutNTP",
    "correctness": "pairs of right and wrong alone, no DropoutNTP",
    "dropout": "DropoutNTP pairs alone",
    "epochs": "three epochs over the pairs",
    "even": "a base that was taught every way of working equally often, the hard ones too",
}


def condition_cells() -> list[Cell]:
    """All of them."""
    return [Cell(Base(0, even=name == "even"), 0, name) for name in CONDITIONS]
