"""Makes every rank resume from one checkpoint, the one that rank 0 chose."""

import socket
from pathlib import Path
from typing import Any

import lightning as L

from mpo_lightning.runs.agreement import gather, of_rank_zero, stop_together


class SameCheckpoint(L.Callback):
    """Compares the checkpoints that ranks found, before any rank loads, and the steps that they loaded.

    Args:
        path: checkpoint that this process found; None for a fresh start.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compares the checkpoints that the ranks found.

        Raises:
            InputError: some ranks would start afresh and others not, or a rank does not see the checkpoint.
        """
        where = f"rank {trainer.global_rank} on {socket.gethostname()}"
        chosen = of_rank_zero(self.path)
        problem = None
        if (chosen is None) != (self.path is None):
            problem = f"--ckpt_path: rank 0 {_does(chosen)} and {where} {_does(self.path)}"
        elif chosen not in (None, "hpc") and not Path(str(chosen)).exists():
            problem = f"--ckpt_path: {where} does not see {chosen}, which rank 0 chose"
        stop_together(
            problem
            and (
                f"{problem}; put trainer.default_root_dir on a disk that all machines share, or start again if an "
                "earlier run was still writing there"
            )
        )

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compares the steps that the ranks loaded.

        Raises:
            InputError: files of the same path have different steps.
        """
        steps = gather(checkpoint["global_step"])
        differ = len(set(steps)) > 1
        stop_together(
            f"--ckpt_path {of_rank_zero(self.path)}: the ranks found checkpoints of different steps there "
            f"({', '.join(map(str, steps))}); put "
            "trainer.default_root_dir on a disk that all machines share"
            if differ
            else None
        )


def _does(path: str | None) -> str:
    return "starts afresh" if path is None else f"resumes from {path}"
