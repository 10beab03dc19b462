"""What was asked, as far as checking an answer needs it."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of an answer."""

    CHOICE = "choice"
    INTEGER = "integer"
    FLOAT = "float"
    LIST = "list"
    EXPRESSION = "expression"
    TEXT = "text"


@dataclass(frozen=True)
class Question:
    """A question that has one right answer.

    Attributes:
        kind: of the answer.
        gold: the right answer; of a choice its letter or its text.
        choices: texts of the options in the order of their letters; of a choice.
        precision: decimals that a float is rounded to; None asks for equality to the digits that the gold has.
    """

    kind: Kind
    gold: str
    choices: tuple[str, ...] = ()
    precision: int | None = None
