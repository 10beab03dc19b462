"""The input of the objectives: log-probabilities of whole answers.

Shape letter: P pairs.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SequenceLogps:
    """Log-probabilities of both answers of each pair under one model.

    Attributes:
        chosen: float64 [P], nats, summed over the answer's trained tokens, including the end token.
        rejected: float64 [P], the same for the rejected answers.
        chosen_tokens: int64 [P], trained tokens of the chosen answers.
        rejected_tokens: int64 [P], trained tokens of the rejected answers.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    def select(self, pairs: Tensor) -> "SequenceLogps":
        """The pairs selected by an index or a mask."""
        return SequenceLogps(
            self.chosen[pairs], self.rejected[pairs], self.chosen_tokens[pairs], self.rejected_tokens[pairs]
        )

    def detach(self) -> "SequenceLogps":
        """The same log-probs without a gradient."""
        return SequenceLogps(self.chosen.detach(), self.rejected.detach(), self.chosen_tokens, self.rejected_tokens)
