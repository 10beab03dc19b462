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
        return f"{self.pairs}-{self.condition}" if self.condition else self.pairs

    @property
    def pairs(self) -> str:
        """The folder of the cell whose responses and pairs it starts from."""
        return f"cell-{self.base.name.removeprefix('base-')}-{self.pair_set}"

    @property
    def epochs(self) -> int:
        """How often the pairs are seen."""
        return 3 if self.condition == "epochs" else 1


CONDITIONS = {
    "correctness": "pairs of right and wrong alone, no DropoutNTP",
    "dropout": "DropoutNTP pairs alone",
    "close": "the half of the pairs of right and wrong whose sides differ least",
    "far": "the half of the pairs of right and wrong whose sides differ most",
    "epochs": "three epochs over the pairs",
    "even": "a base that was taught every way of working equally often, its own pairs and its own sweep",
}
"""Each on base 0 and pair set 0 with the settings that were chosen there, but for "even"."""


def condition_cells() -> list[Cell]:
    """All of them, the base that was taught evenly last."""
    return [*(Cell(Base(0), 0, name) for name in CONDITIONS if name != "even"), Cell(Base(0, even=True), 0)]
