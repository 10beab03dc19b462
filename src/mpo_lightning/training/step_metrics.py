"""What is reported of a step: sums over pairs, added up over micro-batches and ranks, then divided.

Every number is a mean over the pairs of a global step (or of a whole validation), however these were cut up.
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
    """float64 [len(NAMES)]: sums over a micro-batch's pairs; 0 for what the objective does not have (see `mean_names`).

    Args:
        terms: of the real pairs.
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
    tokens = sum(sum(lengths) for key, lengths in zip(batch.keys, batch.lengths, strict=True) if key)
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
    """Adds up a global step's micro-batches and measures its time, validation left out."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._started = time.perf_counter()
        self._paused = 0.0

    def add(self, sums: Tensor) -> None:
        """Takes in a micro-batch's `step_sums`."""
        self._sums = sums if self._sums is None else self._sums + sums

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last start."""
        return self._sums is None

    def restart(self) -> None:
        """Forgets what was added and starts the clock."""
        self._sums, self._started = None, time.perf_counter()

    def pause(self) -> None:
        """Stops the clock."""
        self._paused = time.perf_counter()

    def go_on(self) -> None:
        """Starts the clock again; what passed since `pause` does not count."""
        self._started += time.perf_counter() - self._paused

    def finish(self, reduce_sum: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The step's sums over all ranks, and its counts and rates by name; starts the next step."""
        assert self._sums is not None
        sums = reduce_sum(self._sums)
        seconds = time.perf_counter() - self._started
        self.restart()
        totals = dict(zip(NAMES, sums.tolist(), strict=True))
        counts = {name: totals[name] for name in ("pairs", "set_aside", "cut_answers")}
        return sums, counts | {f"{name}_per_second": totals[name] / seconds for name in ("pairs", "tokens")}


def mean_names(objective: MPOObjective) -> list[str]:
    """The means that an objective has, always the same ones, so that a NaN shows as NaN and not as the last value that
    was none.
    """
    weights = objective.weights
    absent = {name for name in ("preference", "quality", "generation") if getattr(weights, name) == 0}
    names = [name for name in MEANS if name.removeprefix("loss_") not in absent]
    without_reference = ("rewards_chosen", "rewards_rejected", "margin", "accuracy")
    return names if objective.needs_reference else [name for name in names if name not in without_reference]


def step_means(sums: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Means over pairs by name; NaN where every pair was set aside."""
    values = dict(zip(NAMES, sums.tolist(), strict=True))
    return {name: values[name] / values["pairs"] if values["pairs"] else float("nan") for name in names}


def pair_rows(batch: PairBatch, terms: LossTerms, policy: SequenceLogps) -> list[dict[str, str | float]]:
    """For each real pair its key, log-probs and, where there is a reference, rewards: which pairs the policy gets
    right.
    """
    columns = {"logp_chosen": policy.chosen, "logp_rejected": policy.rejected}
    if terms.rewards_chosen is not None and terms.rewards_rejected is not None:
        columns |= {"reward_chosen": terms.rewards_chosen, "reward_rejected": terms.rewards_rejected}
    keys = [key for key in batch.keys if key]
    return [
        {"key": key} | {name: column[pair].item() for name, column in columns.items()} for pair, key in enumerate(keys)
    ]
