"""Metrics of a step: sums over pairs, added up over micro-batches and ranks, then divided.

Every number is a mean over the pairs of a global step or a whole validation, however they are split over ranks.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.objectives import LossTerms, MPOObjective, SequenceLogps

MEANS = (
    "loss",
    "loss_preference",
    "loss_quality",
    "loss_generation",
    "rewards_chosen",
    "rewards_rejected",
    "margin",
    "accuracy",
    "logps_chosen",
    "logps_rejected",
    "tokens_chosen",
    "tokens_rejected",
)
COUNTS = ("pairs", "tokens", "tiles", "set_aside", "cut_answers")
NAMES = MEANS + COUNTS


def step_sums(terms: LossTerms, policy: SequenceLogps, batch: PairBatch) -> Tensor:
    """Returns sums over a micro-batch's pairs, float64 [len(NAMES)]; 0 for terms that the objective lacks.

    Args:
        terms: loss terms of the real pairs.
        policy: log-probs of the real pairs.
        batch: the micro-batch.
    """

    def total(values: Tensor | None) -> Tensor:
        return (
            values.detach().double().sum() if values is not None else policy.chosen.new_zeros((), dtype=torch.float64)
        )

    margin = accuracy = None
    if terms.rewards_chosen is not None and terms.rewards_rejected is not None:
        margin = terms.rewards_chosen - terms.rewards_rejected
        accuracy = margin > 0
    count = policy.chosen.new_tensor
    tokens = sum(map(sum, batch.lengths)) if any(batch.keys) else 0
    sums = [
        terms.total,
        terms.preference,
        terms.quality,
        terms.generation,
        terms.rewards_chosen,
        terms.rewards_rejected,
    ]
    sums += [margin, accuracy, policy.chosen, policy.rejected, policy.chosen_tokens, policy.rejected_tokens]
    counts = [
        batch.weights.sum(),
        count(tokens),
        count(len(batch.tiles)),
        count(len(batch.set_aside)),
        count(batch.cut_answers),
    ]
    return torch.stack([total(value) for value in sums] + [value.double() for value in counts])


class StepMeter:
    """Adds up a global step's micro-batches and measures its time, without validation."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._started = time.perf_counter()
        self._paused = 0.0

    def add(self, sums: Tensor) -> None:
        """Adds a micro-batch's `step_sums`."""
        self._sums = sums if self._sums is None else self._sums + sums

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last restart."""
        return self._sums is None

    def restart(self) -> None:
        """Clears the sums and starts the clock."""
        self._sums, self._started = None, time.perf_counter()

    def pause(self) -> None:
        """Stops the clock."""
        self._paused = time.perf_counter()

    def go_on(self) -> None:
        """Starts the clock again; the time since `pause` does not count."""
        self._started += time.perf_counter() - self._paused

    def finish(self, reduce_sum: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Returns the step's sums over all ranks, and its counts and rates (a second) by name; starts the next step."""
        assert self._sums is not None
        sums = reduce_sum(self._sums)
        seconds = time.perf_counter() - self._started
        self.restart()
        totals = dict(zip(NAMES, sums.tolist(), strict=True))
        counts = {name: totals[name] for name in ("pairs", "set_aside", "cut_answers")}
        return sums, counts | {f"{name}_per_second": totals[name] / seconds for name in ("pairs", "tokens")}


def mean_names(objective: MPOObjective) -> list[str]:
    """Returns the names of an objective's means; they do not depend on values, so that a NaN is logged as NaN."""
    weights = objective.weights
    absent = {name for name in ("preference", "quality", "generation") if getattr(weights, name) == 0}
    names = [name for name in MEANS if name.removeprefix("loss_") not in absent]
    without_reference = ("rewards_chosen", "rewards_rejected", "margin", "accuracy")
    return names if objective.needs_reference else [name for name in names if name not in without_reference]


def step_means(sums: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Returns means over pairs by name; NaN if every pair was skipped."""
    values = dict(zip(NAMES, sums.tolist(), strict=True))
    return {name: values[name] / values["pairs"] if values["pairs"] else float("nan") for name in names}


def pair_rows(batch: PairBatch, terms: LossTerms, policy: SequenceLogps) -> list[dict[str, str | float]]:
    """Returns each real pair's key, log-probs in nats and, with a reference, rewards."""
    columns = {"logp_chosen": policy.chosen, "logp_rejected": policy.rejected}
    if terms.rewards_chosen is not None and terms.rewards_rejected is not None:
        columns |= {"reward_chosen": terms.rewards_chosen, "reward_rejected": terms.rewards_rejected}
    keys = [key for key in batch.keys if key]
    return [
        {"key": key} | {name: column[pair].item() for name, column in columns.items()} for pair, key in enumerate(keys)
    ]
