"""A callback for benchmarks/faults.py: records what each step trained on, and the loss of each validation."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist


class Recorder(L.Callback):
    """Appends a line for each step and each validation.

    A step's line has its number, its records over all ranks, and its loss in hexadecimal, which keeps every bit.

    Args:
        path: file to append to.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.keys: list[str] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.keys += [key for key in batch.keys if key]
        if not batch.last_of_step:
            return
        parts = [self.keys]
        if dist.is_initialized():
            parts = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, self.keys)
        self.keys = []
        if trainer.is_global_zero:
            loss = float(trainer.callback_metrics["train/loss"]).hex()
            line = {"step": trainer.global_step, "keys": sorted(key for part in parts for key in part), "loss": loss}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit":
            loss = float(trainer.callback_metrics["val/loss"]).hex()
            line = {"step": f"validation after {trainer.global_step}", "keys": [], "loss": loss}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
