"""The quality loss: how good each answer is by itself, measured against a moving reward shift delta.

    L_q = -logsigmoid(beta c - delta) - logsigmoid(-(beta r - delta))

delta is "the moving average of previous rewards" (MPO eq. 6, after BCO, arXiv 2404.04656). Two readings of this are
implemented. Both keep a float64 sum and an integer count, which are reduced over ranks, saved and restored.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

ReduceSum = Callable[[Tensor], Tensor]
"""Function that sums a tensor over all ranks; the identity on one rank."""


def quality_loss(rewards_chosen: Tensor, rewards_rejected: Tensor, delta: Tensor | float) -> Tensor:
    """The quality loss of each pair, [P] in nats.

    Args:
        rewards_chosen: [P], beta * (log pi - log ref) of the chosen answers.
        rewards_rejected: [P], the same for the rejected answers.
        delta: reward shift.
    """
    return -logsigmoid(rewards_chosen - delta) - logsigmoid(-(rewards_rejected - delta))


class RewardShift:
    """State of delta: sum and count of the values it averages."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.count = 0

    @property
    def mean(self) -> float:
        """The current delta; 0 before the first update."""
        return self.sum / self.count if self.count else 0.0

    def before_loss(self, rewards: Tensor, reduce_sum: ReduceSum, training: bool) -> float:
        """Returns delta for a micro-batch.

        Args:
            rewards: [R], rewards of both answers of the micro-batch's pairs; may be empty.
            reduce_sum: sum over ranks; every rank calls this method for every micro-batch.
            training: False in validation.
        """
        raise NotImplementedError

    def after_step(self, reward_sum: float, reward_count: int) -> None:
        """Updates delta once per global step, with sum and count of its rewards over all ranks and micro-batches."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, float | int]:
        return {"sum": self.sum, "count": self.count}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        self.sum, self.count = float(state["sum"]), int(state["count"])


class PreviousSteps(RewardShift):
    """The mean reward over all pairs of earlier global steps, as the paper says.

    It does not depend on how a step is divided into ranks and micro-batches, and does not change in validation. It is 0
    in the first step.
    """

    def before_loss(self, rewards: Tensor, reduce_sum: ReduceSum, training: bool) -> float:
        return self.mean

    def after_step(self, reward_sum: float, reward_count: int) -> None:
        self.sum += reward_sum
        self.count += reward_count


class RunningMicroBatches(RewardShift):
    """The reference code's variant: one value (the mean reward) per rank and micro-batch, added before the loss uses
    delta.

    It changes in validation as well, as the reference's does.
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
        """Does nothing: `before_loss` has already added the micro-batches."""
