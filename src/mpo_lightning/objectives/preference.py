"""Preference losses: which of two answers is better.

Each loss is a class with its own options and one call, `(policy, reference, beta) -> [P]` in nats. A config names it
(`class_path: DPO`), or a user's own class. All are computed in the dtype of the log-probs (float64).

Notation: c = log pi(chosen) - log ref(chosen), r = the same for rejected, h = c - r.
The tests compare the numbers with TRL 0.10.1 and 1.16; where the two differ, the docstring says which one is followed.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import logsigmoid

from mpo_lightning.objectives.logps import SequenceLogps


class PreferenceLoss:
    """Base class of all preference losses. Subclass it, write `__call__`, and name the class in a config."""

    needs_reference = True
    moves_reference = False
    """Whether `after_step` moves the reference, which checkpoints then hold as well."""

    def after_step(self, step: int, move_reference: Callable[[float], None]) -> None:
        """Called after every optimizer step of a loss whose `moves_reference` is true.

        Args:
            step: number of optimizer steps taken.
            move_reference: sets reference = alpha * policy + (1 - alpha) * reference for an alpha.
        """

    def at_start(self, beta: float) -> float | None:
        """The loss if policy and reference are equal, in closed form, for the start-up check; None if unknown."""
        return None

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        """Computes the loss of each pair, [P] in nats.

        Args:
            policy: log-probs under the policy, with gradient.
            reference: log-probs under the reference; the policy's own, detached, if `needs_reference` is False.
            beta: strength of the pull towards the reference.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(policy, reference, beta)")


def log_ratios(policy: SequenceLogps, reference: SequenceLogps) -> tuple[Tensor, Tensor]:
    """Returns c and r, [P] in nats."""
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def margin(policy: SequenceLogps, reference: SequenceLogps) -> Tensor:
    """Returns h, [P] in nats."""
    chosen, rejected = log_ratios(policy, reference)
    return chosen - rejected


def average_margin(policy: SequenceLogps, reference: SequenceLogps) -> Tensor:
    """Returns c and r divided by the tokens of their responses, and subtracted, [P] in nats a token."""
    chosen, rejected = log_ratios(policy, reference)
    return chosen / policy.chosen_tokens - rejected / policy.rejected_tokens


class DPO(PreferenceLoss):
    """-logsigmoid(beta h). MPO's preference term. Source: Rafailov et al. 2023, arXiv 2305.18290; MPO eq. 5."""

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return -logsigmoid(beta * margin(policy, reference))
