"""LightningCLI for `mpo fit|validate|test|predict`."""

import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from mpo_lightning.errors import InputError
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule


class MPOCLI(LightningCLI):
    """The module and the data module are fixed; the tokenizer always comes from the policy's folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.policy", "data.processor")

    def before_instantiate_classes(self) -> None:
        """Refuses a checkpoint that is not there before any model is loaded."""
        path = self._get(self.config, "ckpt_path")
        if path and path not in ("best", "last", "hpc", "registry") and not Path(path).exists():
            raise InputError(f"--ckpt_path {path}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Without a logger of the user's own, metrics.csv goes into the run folder."""
        config = self._get(self.config_init, "trainer", default={})
        if config.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(config.get("default_root_dir") or "runs", name="")
        return super().instantiate_trainer(**kwargs)


def run(args: Any = None) -> MPOCLI:
    """Parses sys.argv (or `args`, in tests) and runs the verb."""
    # The policy's frozen parts and the reference are in eval mode on purpose; validation may have no shards.
    for message in (
        "Found .* module\\(s\\) in eval mode",
        "Total length of `list` across ranks is zero",
        ".*your dataloader is not resumable",
    ):
        warnings.filterwarnings("ignore", message=message)
    try:
        return MPOCLI(
            MPOModule,
            MMPRDataModule,
            # The optimizer is MPOModule's own: built after configure_model, over trained parameters only, stepping per step.
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            args=args,
        )
    except ValueError as error:
        # jsonargparse buries what an optional class says when it is built.
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise
    finally:
        if torch.distributed.is_initialized():
            # A gloo rank that exits with its group alive may abort.
            torch.distributed.destroy_process_group()
