"""Training with Lightning: the module, the data, and the callbacks that a config names."""

from mpo_lightning.training.alarms import Alarms
from mpo_lightning.training.checkpoints import StepCheckpoint
from mpo_lightning.training.curves import Curves
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.export import ExportPolicy
from mpo_lightning.training.module import MPOModule
from mpo_lightning.training.score_writer import ScoreWriter
from mpo_lightning.training.sharded_strategy import FSDP2Strategy
from mpo_lightning.training.startup_check import StartupCheck

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
