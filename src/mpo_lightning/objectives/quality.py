"""The quality loss: how good each answer is by itself, measured against a moving reward shift delta.

    L_q = -logsigmoid(beta c - delta) - logsigmoid(-(beta r - delta))

delta is "the moving average of previous rewards" (MPO eq. 6, after BCO, arXiv 2404.04656). Two readings have names
here; both keep a float64 sum and an integer count that are reduced over ranks, saved and restored.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

ReduceSum = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks; the identity on one."""


def quality_loss(rewards_chosen: Tensor, rewards_rejected: Tensor, delta: Tensor | float) -> Tensor:
    """The loss of each pair, [P] in nats.

    Args:
        rewards_chosen: [P], beta * (log pi - log ref) of the chosen answers.
        rewards_rejected: [P].
        delta: the reward shift.
    """
    return -logsigmoid(rewards_chosen - delta) - logsigmoid(-(rewards_rejected - delta))


class RewardShift:
    """State of delta: the sum and the count of what it is the mean of."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.count = 0

    @property
    def mean(self) -> float:
        """delta as it stands; 0 before anything was seen."""
        return self.sum / self.count if self.count else 0.0

    def before_loss(self, rewards: Tensor, reduce_sum: ReduceSum, training: bool) -> float:
        """delta for a micro-batch.

        Args:
            rewards: [R] of both answers of the micro-batch's pairs; may be empty.
            reduce_sum: over ranks; every rank calls this for every micro-batch.
            training: False in validation.
        """
        raise NotImplementedError

    def after_step(self, reward_sum: float, reward_count: int) -> None:
        """Told once a global step: sum and count of all its rewards, over all ranks and micro-batches."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, float | int]:
        return {"sum": self.sum, "count": self.count}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        self.sum, self.count = float(state["sum"]), int(state["count"])


class PreviousSteps(RewardShift):
    """The mean over the rewards of all pairs of earlier global steps: the paper's words.

    It does not depend on how a step is cut into ranks and micro-batches, and does not move in validation. 0 in the
    first step.
    """

    def before_loss(self, rewards: Tensor, reduce_sum: ReduceSum, training: bool) -> float:
        return self.mean

    def after_step(self, reward_sum: float, reward_count: int) -> None:
        self.sum += reward_sum
        self.count += reward_count


class RunningMicroBatches(RewardShift):
    """The reference code's variant: one value (the mean reward) a rank and micro-batch, taken in before the loss uses
    it.

    It moves in validation as well, as the reference does.
    Source: InternVL `trainer_dpo.py` with trl 0.10.1 `RunningMoments`.
    """

    def before_loss(self, rewards: Tensor, reduce_sum: ReduceSum, training: bool) -> float:
        seen = torch.stack(
            [rewards.mean() if len(rewards) else rewards.sum(), rewards.new_tensor(float(len(rewards) > 0))]
        )
        total, count = reduce_sum(seen.double()).tolist()
        self.sum += total
        self.count += int(count)
        return self.mean

    def after_step(self, reward_sum: float, reward_count: int) -> None:
        """Nothing: the micro-batches were taken in already."""
