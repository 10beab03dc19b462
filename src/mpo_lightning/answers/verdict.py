"""What became of an answer, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extraction:
    """The part of a response that is its answer.

    Attributes:
        text: as it stands in the response.
        rule: the name of what found it.
        confidence: 0 to 1; how often such a find is what the response means.
    """

    text: str
    rule: str
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """A decision about a response.

    Attributes:
        correct: None is undecided: no answer was found, or it cannot be compared.
        extraction: the answer's words, "" where there are none.
        prediction: the same in the form that was compared, such as a letter or a number; None where there is none.
        rule: what found and compared it, such as "boxed/number".
        confidence: 0 to 1.
    """

    correct: bool | None
    extraction: str
    prediction: str | None
    rule: str
    confidence: float
