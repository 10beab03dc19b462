"""Sets Lightning's counters when a run resumes, and runs a validation that is still due.

Our state is one integer, the global steps done. Lightning counts micro-batches and epochs. When a run resumes with
another number of devices or another micro-batch size, these counters are wrong. Saved in the middle of a step, they
include half of it. They also count an epoch as done that `max_steps` ended early. Here they are derived from the number
of steps, in the form that Lightning saves right after the last micro-batch of a step.

A checkpoint is written before the validation that follows its step. A run that resumes from it therefore has to run
that validation: for its metrics, sampled responses and alarms, for the choice of the best checkpoint, and for early
stopping.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mpo_lightning.runs.agreement import stop_together
from mpo_lightning.runs.identity import RunIdentity
from mpo_lightning.runs.lightning_internals import STEPPED_BATCHES, validate_inside_fit, validation_is_due
from mpo_lightning.runs.torch_internals import set_last_rates


class Resume:
    """State that a module keeps for resuming its run.

    Args:
        identity: identity of the run.

    Attributes:
        rates: configured learning rates, one per parameter group.
        validated_step: step after which the last complete validation ran.
    """

    def __init__(self, identity: RunIdentity) -> None:
        self.identity = identity
        self.rates: list[float] = []
        self.validated_step = -1
        self._owes_validation = False

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Adds to a checkpoint what `load` needs."""
        checkpoint["made_with"] = self.identity.state_dict()
        checkpoint["validated_step"] = self.validated_step

    def load(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        """Compares the checkpoint's run with this one and corrects Lightning's counters. Every rank calls this.

        Raises:
            InputError: the checkpoint belongs to another run.
        """
        plan = getattr(getattr(trainer, "datamodule", None), "train_plan", None)
        if trainer.state.fn == "fit":
            stop_together(self.identity.difference(checkpoint.get("made_with", {})))
        if plan is not None:
            step = checkpoint["global_step"]
            self.validated_step = checkpoint.get("validated_step", -1)
            self._owes_validation = 0 < step != self.validated_step
            align_loops(checkpoint, step, plan.steps, plan.micro_batches_per_step)
            trainer.fit_loop.run = partial(self._run_and_validate, trainer, trainer.fit_loop.run)  # type: ignore[method-assign]

    def _run_and_validate(self, trainer: L.Trainer, run: Callable[[], None]) -> None:
        """Runs the loop, and then the validation if it is still due.

        Without a step left the loop does nothing and calls no hook.
        """
        run()
        self._validate(trainer)

    def begin(self, module: L.LightningModule) -> None:
        """Sets the configured learning rates and runs a due validation; called before the first step of a fit."""
        trainer = module.trainer
        if trainer.global_step:
            follow_rates(trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler, self.rates)
        self._validate(trainer)

    def _validate(self, trainer: L.Trainer) -> None:
        if self._owes_validation:
            self._owes_validation = False
            run_owed_validation(trainer, trainer.datamodule.train_plan.steps)  # type: ignore[attr-defined]


def follow_rates(optimizer: Optimizer, schedule: LRScheduler, rates: list[float]) -> None:
    """Gives a resumed run the learning rates and length of its own configuration instead of the checkpoint's.

    With unchanged settings the rates stay the same to the bit: a step's rate is the group's rate times the schedule's
    factor.

    Args:
        optimizer: optimizer with the checkpoint's state.
        schedule: schedule with the checkpoint's state and the resumed run's length.
        rates: configured learning rates, one per parameter group.
    """
    assert isinstance(schedule, LambdaLR)
    schedule.base_lrs = list(rates)
    for group, rate, factor in zip(optimizer.param_groups, rates, schedule.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * factor(schedule.last_epoch)
    set_last_rates(schedule, [group["lr"] for group in optimizer.param_groups])


def run_owed_validation(trainer: L.Trainer, steps_per_epoch: int) -> None:
    """Validates if the trainer's settings have a validation due after the loaded step. Every rank calls this.

    Args:
        trainer: trainer with the counters of `align_loops`.
        steps_per_epoch: global steps in an epoch.
    """
    fit = trainer.fit_loop
    epoch: Any = fit.epoch_progress.current
    before = (epoch.processed, epoch.completed)
    # If the step ended an epoch, the loop already counts that epoch as done.
    epoch.processed = epoch.completed = (trainer.global_step - 1) // steps_per_epoch
    try:
        if not validation_is_due(trainer):
            return
        validate_inside_fit(trainer)
        if fit.epoch_loop.batch_progress.is_last_batch:
            # Callbacks with a monitor often decide at the end of an epoch.
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if getattr(callback, "monitor", None) in trainer.callback_metrics:
                    callback.on_train_epoch_end(trainer, trainer.lightning_module)
    finally:
        epoch.processed, epoch.completed = before


def align_loops(checkpoint: dict[str, Any], step: int, steps_per_epoch: int, micro_batches_per_step: int) -> None:
    """Rewrites a Lightning checkpoint's loop counters in place.

    Args:
        checkpoint: checkpoint as Lightning loaded it.
        step: global steps done, over all epochs.
        steps_per_epoch: global steps in an epoch.
        micro_batches_per_step: micro-batches per rank and step of the resumed run.
    """
    if step == 0:
        del checkpoint["loops"]
        return
    epochs_before, last_step = divmod(step - 1, steps_per_epoch)
    loops = checkpoint["loops"]["fit_loop"]
    done, done_in_epoch = step * micro_batches_per_step, (last_step + 1) * micro_batches_per_step
    loops["epoch_loop.batch_progress"] = {
        "total": {"ready": done, "started": done, "processed": done, "completed": done - 1},
        "current": {
            "ready": done_in_epoch,
            "started": done_in_epoch,
            "processed": done_in_epoch,
            "completed": done_in_epoch - 1,
        },
        "is_last_batch": last_step + 1 == steps_per_epoch,
    }
    epoch = {
        "ready": epochs_before + 1,
        "started": epochs_before + 1,
        "processed": epochs_before,
        "completed": epochs_before,
    }
    loops["epoch_progress"] = {"total": epoch, "current": dict(epoch)}
    # A validation always starts with its first batch, wherever it was stopped.
    zero = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    loops["epoch_loop.val_loop.batch_progress"] = {"total": zero, "current": dict(zero), "is_last_batch": False}
    # The loggers' step count; Lightning adds the last step when it restarts.
    loops["epoch_loop.state_dict"][STEPPED_BATCHES] = step - 1
