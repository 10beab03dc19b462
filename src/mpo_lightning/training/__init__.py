"""Training with Lightning: the module, the data, and the callbacks that a config names."""

from mpo_lightning.runs.checkpoints.callback import StepCheckpoint
from mpo_lightning.runs.fsdp2 import FSDP2Strategy
from mpo_lightning.training.callbacks.alarms import Alarms
from mpo_lightning.training.callbacks.curves import Curves
from mpo_lightning.training.callbacks.export import ExportPolicy
from mpo_lightning.training.callbacks.score_writer import ScoreWriter
from mpo_lightning.training.callbacks.startup_check import StartupCheck
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule

__all__ = [
    "Alarms",
    "Curves",
    "ExportPolicy",
    "FSDP2Strategy",
    "MMPRDataModule",
    "MPOModule",
    "ScoreWriter",
    "StartupCheck",
    "StepCheckpoint",
]
