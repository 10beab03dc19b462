"""Where a resumed run stands, told to Lightning in its own terms, and what it owes to the run before.

Our state is one integer, the global steps done. Lightning's is a set of counters of micro-batches and epochs, which are
those of the old cut when a run goes on with another number of devices or another micro-batch size, count half of a step
when it was saved in the middle of one, and call an epoch done that `max_steps` ended early. Here the counters are
derived from the one integer, in the form that Lightning itself saves right after the last micro-batch of a step.

A checkpoint of a step is written before the validation that follows it, so that a run which goes on from there owes
that one: its numbers, sampled answers and alarms, the checkpoint that is chosen by them, and whether training stops
early.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mpo_lightning.runs.agreement import stop_together
from mpo_lightning.runs.identity import RunIdentity


class Resume:
    """What a module keeps for going on with its run.

    Args:
        identity: of the run.

    Attributes:
        rates: configured learning rates, one a parameter group.
        validated_step: after which the last whole validation was.
    """

    def __init__(self, identity: RunIdentity) -> None:
        self.identity = identity
        self.rates: list[float] = []
        self.validated_step = -1
        self._owes_validation = False

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Adds to a checkpoint what `load` looks for."""
        checkpoint["made_with"] = self.identity.state_dict()
        checkpoint["validated_step"] = self.validated_step

    def load(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        """Compares a checkpoint's run with this one and puts Lightning's counters right. Every rank calls this.

        Raises:
            InputError: it is another run.
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
        """The loop, which does nothing where no step is left, and then has no hook either; and the validation, if it is
        owed still.
        """
        run()
        self._validate(trainer)

    def begin(self, module: L.LightningModule) -> None:
        """Before the first step of a fit: the run's own learning rates, and the validation that is owed."""
        trainer = module.trainer
        if trainer.global_step:
            follow_rates(trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler, self.rates)
        self._validate(trainer)

    def _validate(self, trainer: L.Trainer) -> None:
        if self._owes_validation:
            self._owes_validation = False
            run_owed_validation(trainer, trainer.datamodule.train_plan.steps)  # type: ignore[attr-defined]


def follow_rates(optimizer: Optimizer, schedule: LRScheduler, rates: list[float]) -> None:
    """Gives a resumed run its own learning rates and its own length, where the checkpoint would bring those of the run
    before.

    With the same settings nothing changes, to the bit: the rate of a step is the group's own times a number of the
    schedule.

    Args:
        optimizer: with the checkpoint's state.
        schedule: likewise, of the resumed run's length.
        rates: configured, one a parameter group.
    """
    assert isinstance(schedule, LambdaLR)
    schedule.base_lrs = list(rates)
    for group, rate, factor in zip(optimizer.param_groups, rates, schedule.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def run_owed_validation(trainer: L.Trainer, steps_per_epoch: int) -> None:
    """Validates where the trainer's settings have it due after the step that was loaded, as Lightning would have. Every
    rank calls this.

    Args:
        trainer: its counters are those that `align_loops` made.
        steps_per_epoch: of the plan.
    """
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    epoch: Any = fit.epoch_progress.current
    before = (epoch.processed, epoch.completed)
    # Where the step ended an epoch, the loop counts it as done by now.
    epoch.processed = epoch.completed = (trainer.global_step - 1) // steps_per_epoch
    try:
        if fit._data_fetcher is None or not loop._should_check_val_fx(fit._data_fetcher):
            return
        stage, first = trainer.state.stage, trainer._logger_connector._first_loop_iter
        trainer.validating = True
        loop.val_loop.restarting = False
        loop.val_loop.run()
        trainer.state.stage = stage
        trainer._logger_connector._first_loop_iter = first
        if loop.batch_progress.is_last_batch:
            # Many decide at the end of the epoch.
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if getattr(callback, "monitor", None) in trainer.callback_metrics:
                    callback.on_train_epoch_end(trainer, trainer.lightning_module)
    finally:
        epoch.processed, epoch.completed = before


def align_loops(checkpoint: dict[str, Any], step: int, steps_per_epoch: int, micro_batches_per_step: int) -> None:
    """Rewrites a Lightning checkpoint's loop counters in place.

    Args:
        checkpoint: what Lightning loaded.
        step: global steps done, over all epochs.
        steps_per_epoch: global steps in an epoch.
        micro_batches_per_step: micro-batches that each rank computes in a step of the resumed run.
    """
    if step == 0:
        del checkpoint["loops"]
        return
    epochs_before, last_step = divmod(step - 1, steps_per_epoch)
    loops = checkpoint["loops"]["fit_loop"]
    done, done_in_epoch = step * micro_batches_per_step, (last_step + 1) * micro_batches_per_step
    loops["epoch_loop.batch_progress"] = {
        "total": {"ready": done, "started": done, "processed": done, "completed": done - 1},
        "current": {"ready": done_in_epoch, "started": done_in_epoch, "processed": done_in_epoch, "completed": done_in_epoch - 1},
        "is_last_batch": last_step + 1 == steps_per_epoch,
    }
    epoch = {"ready": epochs_before + 1, "started": epochs_before + 1, "processed": epochs_before, "completed": epochs_before}
    loops["epoch_progress"] = {"total": epoch, "current": dict(epoch)}
    # A validation begins with its first batch, whichever it was stopped at.
    zero = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    loops["epoch_loop.val_loop.batch_progress"] = {"total": zero, "current": dict(zero), "is_last_batch": False}
    # The step that loggers count; Lightning adds the last one when it restarts.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = step - 1
