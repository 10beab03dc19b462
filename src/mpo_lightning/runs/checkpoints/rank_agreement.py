"""Every rank goes on from one checkpoint, the one that rank 0 chose."""

import socket
from pathlib import Path
from typing import Any

import lightning as L

from mpo_lightning.runs.agreement import gather, of_rank_zero, stop_together


class SameCheckpoint(L.Callback):
    """Compares what the ranks found as soon as they know each other, before any of them loads, and what they loaded.

    Args:
        path: that this process found; None for a fresh start.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raises InputError where some ranks would start afresh and others not, or do not see the checkpoint."""
        where = f"rank {trainer.global_rank} on {socket.gethostname()}"
        chosen = of_rank_zero(self.path)
        problem = None
        if (chosen is None) != (self.path is None):
            problem = f"--ckpt_path: rank 0 {_does(chosen)} and {where} {_does(self.path)}"
        elif chosen not in (None, "hpc") and not Path(str(chosen)).exists():
            problem = f"--ckpt_path: {where} does not see {chosen}, which rank 0 chose"
        stop_together(
            problem
            and (f"{problem}; put trainer.default_root_dir on a disk that all machines share, or start again if the "
                "run before still wrote there")
        )

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raises InputError where files of the same path are of different steps."""
        steps = gather(checkpoint["global_step"])
        differ = len(set(steps)) > 1
        stop_together(
            f"--ckpt_path {of_rank_zero(self.path)}: the ranks found checkpoints of the steps "
            f"{', '.join(map(str, steps))} there; put "
            "trainer.default_root_dir on a disk that all machines share"
            if differ
            else None
        )


def _does(path: str | None) -> str:
    return "starts afresh" if path is None else f"goes on from {path}"
