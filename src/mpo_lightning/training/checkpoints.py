"""Checkpoint files: written every N steps and at the end, found again, and looked at before any model is loaded."""

from pathlib import Path
from pickle import UnpicklingError

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mpo_lightning.errors import InputError


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which with `every_n_train_steps` would forget the steps after the last multiple: this one also
    saves when training ends."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._last_global_step_saved != trainer.global_step:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
        super().on_train_end(trainer, pl_module)


def find_checkpoint(name: str, run_folder: Path) -> str:
    """The checkpoint that `--ckpt_path NAME` means, checked.

    Args:
        name: a path, or "last" for the newest last.ckpt below the run folder, or "hpc" for the one that SLURM's requeuing left.
        run_folder: `trainer.default_root_dir`.

    Raises:
        InputError: there is none, or the file is not a whole checkpoint of this package.
    """
    if name == "hpc":
        return name
    if name in ("best", "registry"):
        raise InputError(
            f"--ckpt_path {name}: this command does not know which one that is; give the path of a checkpoint, or 'last'"
        )
    if name == "last":
        found = sorted(run_folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise InputError(f"--ckpt_path last: no last.ckpt below {run_folder}; leave --ckpt_path out to start a new run")
        name = str(found[-1])
    path = Path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    if path.is_file():
        _check_file(path)
    elif not (path / "meta.pt").is_file():
        raise InputError(f"--ckpt_path {name}: the folder is not a checkpoint of 'mpo fit'; exported folders go to --model.policy")
    return name


def _check_file(path: Path) -> None:
    try:
        # Memory-mapped: the tensors are not read.
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"--ckpt_path {path}: the file is damaged, cut short, or not a checkpoint ({reason})") from None
    if not isinstance(content, dict) or not {"state_dict", "reward_shift", "pytorch-lightning_version"} <= content.keys():
        raise InputError(f"--ckpt_path {path}: not a checkpoint of 'mpo fit'; exported folders go to --model.policy")
