"""The comparisons of a study: base models, pair sets, and other conditions."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Base:
    """A base model.

    Attributes:
        number: also its seed.
        even: whether it was taught every way of working equally often, the hard ones too; some of its ways are then
            unreliable. It takes twice the steps to learn.
    """

    number: int
    even: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"base-{self.number}" + ("-even" if self.even else "")

    @property
    def seed(self) -> int:
        """Seed of its responses."""
        return 100 * self.number + (50 if self.even else 0)


@dataclass(frozen=True)
class Condition:
    """How a comparison is made otherwise than the study's own way, which is the default of every field.

    Attributes:
        said: the difference in words.
        pairs: the pairs of the responses that are used.
        control: the condition that it is compared with; "" is the study's own way. Numbers of pairs, and so of steps,
            may differ.
        temperature: sampling temperature of the responses.
        epochs: how often the pairs are seen.
        even: the base is the one that was taught evenly.
    """

    said: str = ""
    pairs: Literal["all", "correctness", "dropout_ntp", "close", "far", "sound", "lucky"] = "all"
    control: str = ""
    temperature: float = 1.0
    epochs: int = 1
    even: bool = False

    @property
    def own_responses(self) -> bool:
        """Whether it has responses of its own, and with them a sweep of its own, over a part of the study's; the others
        take those of base 0 and pair set 0.
        """
        return self.even or self.temperature != 1.0


CONDITIONS = {
    "cool": Condition(("responses drawn at temperature 0.5, so that the wrong ones are nearer to what the base says "
                      "greedily"), temperature=0.5),
    "close": Condition(("of all pairs of right and wrong of a question the two at most whose sides differ least, no "
                       "DropoutNTP"), "close", "correctness"),
    "far": Condition(("of all pairs of right and wrong of a question the two at most whose sides differ most, no "
                     "DropoutNTP"), "far", "close"),
    "correctness": Condition("pairs of right and wrong alone, no DropoutNTP", "correctness"),
    "dropout": Condition("DropoutNTP pairs alone", "dropout_ntp"),
    "sound": Condition("pairs whose chosen side is right in every step", "sound"),
    "lucky": Condition("pairs whose chosen side has the right answer and is not right in every step", "lucky", "sound"),
    "epochs": Condition("three epochs over the pairs", epochs=3),
    "even": Condition(("a base that was taught every way of working equally often, the hard ones too, in twice the "
                      "steps"), even=True),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One comparison of all methods: a base, a pair set of its responses, and a condition.

    Attributes:
        base: the base model that is trained.
        pair_set: number of the pair set.
        name_of_condition: a key of CONDITIONS; "" is the study's own way.
    """

    base: Base
    pair_set: int
    name_of_condition: str = ""

    @property
    def condition(self) -> Condition:
        """What is otherwise."""
        return CONDITIONS.get(self.name_of_condition, Condition())

    @property
    def name(self) -> str:
        """Name of its folder."""
        own = self.name_of_condition and not self.condition.even
        return f"cell-{self.base.name.removeprefix('base-')}-{self.pair_set}" + (
            f"-{self.name_of_condition}" if own else ""
        )

    @property
    def responses(self) -> str:
        """The folder of the cell whose responses its pairs are made of."""
        return self.name if self.condition.own_responses else Cell(self.base, self.pair_set).name


def condition_cells() -> list[Cell]:
    """All of them; with a base of its own, a condition has as many pair sets as a base has in the grid."""
    return [
        Cell(Base(0, condition.even), pair_set, name)
        for name, condition in CONDITIONS.items()
        for pair_set in range(3 if condition.even else 1)
    ]
