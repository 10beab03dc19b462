"""Checkpoint callback that saves every N steps, at the end and when a run is stopped."""

import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mpo_lightning.runs.agreement import of_rank_zero, stop_together
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.runs.lightning_internals import save_now
from mpo_lightning.runs.stop_signals import Stop, StopByInterrupt, StopByTerm, StopSignals

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""Paths in the state of a checkpoint callback."""


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with additional saves, so that no step is lost.

    With `every_n_train_steps`, ModelCheckpoint alone would lose the steps after the last multiple. This callback also
    saves

    - when training ends;
    - when the run is stopped (SIGTERM, Ctrl-C);
    - on SLURM's signal before a time limit, after which the job is requeued;
    - before the first step, so that a run killed right after its start resumes like any other.
    """

    _signals: StopSignals | None = None
    _goes_on = False

    def go_on_in(self, folder: Path) -> None:
        """Writes into the checkpoint folder of the resumed run; call this before training starts.

        The best checkpoints stay known, and those no longer kept are removed.
        """
        self.dirpath, self._goes_on = str(folder), True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Ranks may have found different checkpoints; rank 0's is used.
        self._goes_on, self.dirpath = of_rank_zero((self._goes_on, self.dirpath))
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(of_rank_zero(self._here(state_dict)) if self._goes_on else state_dict)

    def _here(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Returns the resumed run's state with paths in the current folder.

        The run folder may have been moved, and Lightning compares paths as strings.
        """
        folder = Path(str(self.dirpath))
        if Path(state_dict.get("dirpath") or "").parts[-2:] == folder.parts[-2:]:
            paths = {name: str(folder / Path(state_dict[name]).name) if state_dict.get(name) else "" for name in PATHS}
            best = {str(folder / Path(path).name): value for path, value in state_dict["best_k_models"].items()}
            kept = {
                "dirpath": self.dirpath,
                "best_k_models": {path: value for path, value in best.items() if Path(path).exists()},
            }
            state_dict = state_dict | paths | kept
            # The first checkpoint is written before last.ckpt and does not list it.
            last = folder / f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}"
            if self.save_last and not paths["last_model_path"] and last.exists():
                state_dict["last_model_path"] = str(last)
        return state_dict

    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        # Lightning keeps the checkpoint that a run resumed from, so every restart would leave one.
        if self._goes_on and self.dirpath is not None:
            return previous != current and Path(self.dirpath) in Path(previous).parents
        return super()._should_remove_checkpoint(trainer, previous, current)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # With several callbacks, one listens for signals; all of them save when the run stops.
        if next(one for one in trainer.checkpoint_callbacks if isinstance(one, StepCheckpoint)) is self:
            self._signals = StopSignals(trainer)
        if trainer.global_step == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            save_now(self, trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Checked before a step, because after one its metrics are not logged yet.
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Saves a checkpoint.

        Raises:
            InputError: rank 0 cannot write it; raised on every rank.
        """
        io = trainer.strategy.checkpoint_io
        noted: AbstractContextManager[list[str]] = (
            io.deferring() if isinstance(io, ManifestCheckpointIO) else nullcontext([])
        )
        with noted as problems:
            super()._save_checkpoint(trainer, filepath)
        stop_together(problems[0] if problems else None)

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        asked = self._signals.of_any_rank() if self._signals is not None else 0
        if self._signals is None or not asked:
            return
        if asked == self._signals.requeue_signal:
            save_now(self, trainer)
            if not self._signals.requeue():
                rank_zero_warn("the job could not be requeued; its state is saved, and it runs on to its time limit")
                return
        # `on_exception` saves.
        raise StopByInterrupt if asked == signal.SIGINT else StopByTerm

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        save_now(self, trainer)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stop):
            save_now(self, trainer)
            if self._signals is not None:
                rank_zero_info(f"stopped after step {trainer.global_step}; resume with --ckpt_path auto")
        super().on_exception(trainer, pl_module, exception)
