"""Checkpoint files: written every N steps, at the end and when a run is stopped; found again, and looked at before any model is loaded."""

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mpo_lightning.errors import InputError
from mpo_lightning.training.checkpoint_io import MANIFEST, ManifestCheckpointIO, manifest_of, problem_of
from mpo_lightning.training.checkpoint_recovery import finish_killed_writes
from mpo_lightning.training.sharded_checkpoint import REST
from mpo_lightning.training.stop_signals import Stop, StopByInterrupt, StopByTerm, StopSignals
from mpo_lightning.training.together import stop_together

CHOSEN = "MPO_LIGHTNING_CHECKPOINT"
"""Environment variable in which a process tells those that it starts (which have a LOCAL_RANK) its number and the checkpoint that `auto` found."""


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which with `every_n_train_steps` would forget the steps after the last multiple: this one also
    saves when training ends, when it is stopped (SIGTERM, Ctrl-C) or has to make way (SLURM's signal before a time limit; the job is put
    back into the queue), and before the first step, so that a run that was killed at once is gone on with like any other."""

    _signals: StopSignals | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Of several, one listens; all of them save when the run stops.
        if next(one for one in trainer.checkpoint_callbacks if isinstance(one, StepCheckpoint)) is self:
            self._signals = StopSignals(trainer)
        if trainer.global_step == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_now(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        # In front of a step rather than behind one, whose numbers are not logged yet there.
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Raises InputError on every rank where rank 0's disk is full."""
        io = trainer.strategy.checkpoint_io
        noted: AbstractContextManager[list[str]] = io.deferring() if isinstance(io, ManifestCheckpointIO) else nullcontext([])
        with noted as problems:
            super()._save_checkpoint(trainer, filepath)
        stop_together(problems[0] if problems else None)

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        asked = self._signals.of_any_rank() if self._signals is not None else 0
        if self._signals is None or not asked:
            return
        if asked == self._signals.requeue_signal:
            self._save_now(trainer)
            if not self._signals.requeue():
                rank_zero_warn("the job could not be put back into the queue; it is saved, and goes on until its limit")
                return
        # `on_exception` saves.
        raise StopByInterrupt if asked == signal.SIGINT else StopByTerm

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._save_now(trainer)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stop):
            self._save_now(trainer)
            if self._signals is not None:
                rank_zero_info(f"stopped after step {trainer.global_step}; go on with --ckpt_path auto")
        super().on_exception(trainer, pl_module, exception)

    def _save_now(self, trainer: L.Trainer) -> None:
        # At the start nothing is saved yet, although Lightning counts step 0 as saved.
        if self._last_global_step_saved != trainer.global_step or not self._last_checkpoint_saved:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)


def find_checkpoint(name: str, run_folder: Path) -> str | None:
    """The checkpoint that `--ckpt_path NAME` means, checked; None for a fresh start.

    Args:
        name: a path; "last" for the newest last.ckpt below the run folder; "auto" for the newest whole checkpoint below it, or a fresh
            start in a folder without a run; "hpc" for the one that SLURM's requeuing left.
        run_folder: `trainer.default_root_dir`.

    Raises:
        InputError: there is none, or the file is not a whole checkpoint of this package.
    """
    if name == "hpc":
        return name
    if name == "auto":
        # Another rank that this process's parent started takes what that one found.
        starter, _, chosen = os.environ.get(CHOSEN, "").partition(":")
        if "LOCAL_RANK" not in os.environ or starter != str(os.getppid()):
            chosen = _newest_whole(run_folder) or ""
            os.environ[CHOSEN] = f"{os.getpid()}:{chosen}"
        return chosen or None
    if name in ("best", "registry"):
        raise InputError(
            f"--ckpt_path {name}: this command does not know which one that is; give the path of a checkpoint, or 'last'"
        )
    if name == "last":
        finish_killed_writes(run_folder)
        found = sorted(run_folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise InputError(f"--ckpt_path last: no last.ckpt below {run_folder}; leave --ckpt_path out to start a new run")
        name = str(found[-1])
    path = Path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    check_checkpoint(path)
    return name


STEPS = ("metrics.csv", "curves.png", "samples.jsonl", "alarms.jsonl", "export")
"""What a run leaves behind once it has taken steps."""


def _newest_whole(run_folder: Path) -> str | None:
    """The whole checkpoint of the latest step of the latest run, and a line for each that was passed over.

    Raises:
        InputError: there was a run, and none of its checkpoints is whole.
    """
    finish_killed_writes(run_folder)
    found = {path.resolve() for path in run_folder.rglob("*.ckpt") if path.is_file() or path.is_dir()}
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        problem = problem_of(path)
        if problem is None:
            rank_zero_info(f"--ckpt_path auto: going on from {path}")
            return str(path)
        rank_zero_info(f"--ckpt_path auto: passed over {path}: {problem}")
    # config.yaml is written before the models are loaded; these belong to steps.
    begun = [path for path in run_folder.rglob("*") if path.name in STEPS or path.suffix == ".ckpt"]
    if begun:
        raise InputError(
            f"--ckpt_path auto: {run_folder} holds a run ({begun[0].relative_to(run_folder)}) but no whole checkpoint to go on from; choose another "
            "trainer.default_root_dir to start afresh, or delete the run"
        )
    rank_zero_info(f"--ckpt_path auto: nothing in {run_folder} yet, so the run starts afresh")
    return None


def check_checkpoint(path: Path) -> None:
    """Raises InputError unless a file, or the folder of a sharded run, is a whole checkpoint of this package."""
    path = path.resolve()
    if (path / "checkpoint" / "mp_rank_00_model_states.pt").is_file():
        return  # DeepSpeed's own, which has no manifest
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise InputError(
            f"{path}: the folder is not a checkpoint of 'mpo fit', or not a whole one; exported folders go to --model.policy"
        )
    if (path.is_dir() or manifest_of(path).is_file()) and (problem := problem_of(path)):
        raise InputError(f"{path}: the checkpoint is damaged or cut short ({problem}); --ckpt_path auto takes the newest whole one")
    try:
        # Memory-mapped: the tensors are not read.
        content = torch.load(path / REST if path.is_dir() else path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: the file is damaged, cut short, or not a checkpoint ({reason})") from None
    if not isinstance(content, dict) or not {"reward_shift", "pytorch-lightning_version"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of 'mpo fit'; exported folders go to --model.policy")
