"""Callbacks of Lightning's own in a run: which cannot be used here, and which one an error arose in."""

import traceback
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from mpo_lightning.errors import InputError

OURS = Path(__file__).parent.parent
THEIRS = Path(L.__file__).parent / "pytorch" / "callbacks"

INSTEAD = {
    GradientAccumulationScheduler: "data.global_batch_size decides the accumulation",
    BatchSizeFinder: "data.global_batch_size is the batch, and 'mpo model plan' says what fits",
    LearningRateFinder: "set model.optimizer.lr",
    BackboneFinetuning: "set model.freeze",
}
"""Callbacks that change what an option here decides."""


def refuse_callbacks(trainer: L.Trainer) -> None:
    """Raises InputError for a callback that changes what an option here decides, or averages weights in shards."""
    sharded = isinstance(trainer.strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, instead in INSTEAD.items():
            if isinstance(callback, kind):
                raise InputError(f"trainer.callbacks: {type(callback).__name__} cannot be used here; {instead}")
        if sharded and isinstance(callback, StochasticWeightAveraging | WeightAveraging):
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} needs whole weights on each device; use a strategy that "
                "does not shard them, such as strategy/ddp"
            )


def failing_callback(error: Exception) -> str | None:
    """Returns the name of the callback of Lightning's own in which an error arose; None if it arose elsewhere."""
    for frame in reversed([frame for frame, _ in traceback.walk_tb(error.__traceback__)]):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(OURS):
            return None
        found = frame.f_locals.get("self")
        if path.is_relative_to(THEIRS) and isinstance(found, L.Callback):
            return None if type(found).__module__.startswith("mpo_lightning.") else type(found).__name__
    return None
