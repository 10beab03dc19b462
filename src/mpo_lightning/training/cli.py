"""LightningCLI for `mpo fit|validate|test|predict`."""

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule


class MPOCLI(LightningCLI):
    """The module is fixed, the data module may be replaced by class_path. The tokenizer always comes from the policy's folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.policy", "data.init_args.processor" if self.subclass_mode_data else "data.processor")


def run(args: Any = None) -> None:
    """Parses sys.argv (or `args`, in tests) and runs the verb."""
    MPOCLI(
        MPOModule,
        MMPRDataModule,
        # The optimizer is MPOModule's own: built after configure_model, over trained parameters only, stepping per step.
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        args=args,
    )
