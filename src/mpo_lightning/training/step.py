"""One global step: the sums of its micro-batches, and the decisions at its end, before the optimizer steps."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import lightning as L
from torch import Tensor, nn

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.objectives import LossTerms, MPOObjective, RewardShift, SequenceLogps
from mpo_lightning.training.gradients import gradient_norm, scale_gradients
from mpo_lightning.training.loss_limit import LossLimit, LossWatch
from mpo_lightning.training.quarantine import stop_at_bad_records
from mpo_lightning.training.step_guard import StepGuard
from mpo_lightning.training.step_metrics import NAMES, StepMeter, mean_names, step_means, step_sums


class Step:
    """The current step.

    Args:
        objective: the run's objective.
        shift: the run's reward shift, updated after every step.
        limit: limit of the loss above which the run stops.
    """

    def __init__(self, objective: MPOObjective, shift: RewardShift, limit: LossLimit) -> None:
        self.objective, self.shift = objective, shift
        self.meter, self.guard, self.watch = StepMeter(), StepGuard(), LossWatch(limit)
        self._gradient_scale = 1.0
        self._shift_before: dict[str, float | int] | None = None

    def restart(self) -> None:
        """Discards an unfinished step and starts the clock."""
        self.meter.restart()
        self.guard.clear()

    def begin(self) -> None:
        """Saves the reward shift at the step's first micro-batch; called before every micro-batch."""
        if self._shift_before is None:
            self._shift_before = self.shift.state_dict()

    def add(self, batch: PairBatch, terms: LossTerms, policy: SequenceLogps) -> None:
        """Adds a micro-batch."""
        self.meter.add(step_sums(terms, policy, batch))
        self.guard.add(batch, terms.total)

    def finish(
        self, trainer: L.Trainer, planned_pairs: int, reduce_sum: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Ends the step on every rank. Returns the numbers for the progress bar, and the other numbers to log.

        Raises:
            InputError: a record cannot be used, or the loss is not finite or explodes; no weight has changed.
        """
        self._shift_before = None
        # delta as the step's loss used it: `micro_batches` includes the step by now, `previous_steps` does not.
        delta = {"delta": self.shift.mean} if self.objective.needs_reference else {}
        sums, counts = self.meter.finish(reduce_sum)
        totals = dict(zip(NAMES, sums.tolist(), strict=True))
        if totals["set_aside"]:
            stop_at_bad_records(trainer)
        self._stop_unless_finite(trainer, "the loss", totals["loss"])
        most = self.watch.most
        if totals["pairs"] and (problem := self.watch.take(totals["loss"] / totals["pairs"])) is not None:
            self.guard.stop(
                "exploding", problem, folder=run_folder(trainer), step=trainer.global_step, limit=cast(float, most)
            )
        self._gradient_scale = planned_pairs / totals["pairs"] if totals["pairs"] else 0.0
        if self.objective.needs_reference:
            self.shift.after_step(totals["rewards_chosen"] + totals["rewards_rejected"], 2 * int(totals["pairs"]))
        means = step_means(sums, mean_names(self.objective))
        names = [name for name in ("loss", "margin", "accuracy") if name in means]
        shown: dict[str, float] = {name: means.pop(name) for name in names}
        return shown, means | counts | delta

    def prepare_gradients(self, trainer: L.Trainer, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Makes the gradient, a sum over the planned pairs, the mean over those that were not skipped.

        Returns:
            The norm of the gradient.

        Raises:
            InputError: the norm is not finite.
        """
        parameters = list(parameters)
        scale_gradients(parameters, self._gradient_scale)
        norm = gradient_norm(parameters)
        if str(trainer.precision) != "16-mixed":  # its scaler skips such steps
            self._stop_unless_finite(trainer, "the gradient norm", norm.item())
        self.guard.clear()
        return norm

    def _stop_unless_finite(self, trainer: L.Trainer, what: str, value: float) -> None:
        if not math.isfinite(value):
            self.guard.stop("nonfinite", f"{what} is {value}", run_folder(trainer), trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint; within a step, the state at its start, since a resumed run repeats it."""
        return {"reward_shift": self._shift_before or self.shift.state_dict(), "loss_watch": self.watch.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of a checkpoint; earlier versions have no `loss_watch`."""
        self.shift.load_state_dict(state_dict["reward_shift"])
        if "loss_watch" in state_dict:
            self.watch.load_state_dict(state_dict["loss_watch"])


def run_folder(trainer: L.Trainer) -> Path:
    """Returns the folder that the run logs into. Every rank calls this, since `log_dir` is a broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)
