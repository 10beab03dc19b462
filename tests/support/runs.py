"""Small training runs in this process."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from mpo_lightning.training import MMPRDataModule, MPOModule


def make_run(
    folder: Path,
    policy: Path,
    train: Path,
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **module: Any,
):
    """A trainer, a module and a data module; SGD, two micro-batches of two pairs a step, pictures of few tiles unless
    told otherwise.
    """
    settings: dict[str, Any] = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.05)} | module
    options = {
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "num_workers": 0,
        "max_length": 1024,
        "seed": 0,
        "max_tiles": 2,
    } | (data or {})
    limits: dict[str, Any] = {"max_epochs": 1, "callbacks": [], "devices": 1} | (trainer or {})
    built = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=CSVLogger(folder, name=""),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any("Checkpoint" in type(callback).__name__ for callback in limits["callbacks"]),
        **limits,
    )
    return built, MPOModule(str(policy), **settings), MMPRDataModule(str(policy), str(train), **options)


def logged(folder: Path, name: str, version: int = 0) -> list[float]:
    """Every value of a metric in metrics.csv, in order."""
    with (folder / f"version_{version}" / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
