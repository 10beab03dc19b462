"""`mpo fit`, `mpo validate` and `mpo test`, by LightningCLI."""

import traceback
import warnings
from enum import Enum
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mpo_lightning.commands.configs import PACKAGED
from mpo_lightning.commands.fit_config import (
    drop_switched_off_callbacks,
    folders_of,
    refuse_hidden_checkpoints,
    send_loggers_to,
)
from mpo_lightning.commands.parser import NO_TYPE, SentenceParser, cause_of
from mpo_lightning.errors import InputError
from mpo_lightning.files.disk import disk_problem
from mpo_lightning.runs.checkpoints.callback import StepCheckpoint
from mpo_lightning.runs.checkpoints.choice import find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.runs.checkpoints.rank_agreement import SameCheckpoint
from mpo_lightning.runs.checkpoints.recovery import finish_unless_running
from mpo_lightning.runs.folder import RunFolders, own_folders
from mpo_lightning.runs.foreign_callbacks import failing_callback, refuse_callbacks
from mpo_lightning.runs.lock import RunLock, lock_all
from mpo_lightning.runs.lost_ranks import ended_everywhere, launch_whole
from mpo_lightning.runs.rank import is_first
from mpo_lightning.runs.signals import ended_by_term
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule

yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_str(value.name))  # for config.yaml

BASE = PACKAGED / "base.yaml"
"""Callbacks and logging of every run, which other configs override."""


def _is_cache(source: str) -> bool:
    return source == "cache"


class FitParser(SentenceParser, LightningArgumentParser):
    """The parser of the options of `mpo fit|validate|test`."""


class MPOCLI(LightningCLI):
    """LightningCLI with MPOModule and MMPRDataModule; the tokenizer always comes from the policy's folder."""

    locks: tuple[RunLock, ...] = ()

    def __init__(self, args: Any = None) -> None:
        """Parses sys.argv, or `args`, and runs the verb, as LightningCLI does."""
        try:
            super().__init__(
                MPOModule,
                MMPRDataModule,
                parser_class=FitParser,
                parser_kwargs={"prog": "mpo"},
                # MPOModule builds its optimizer itself, after configure_model and over trained parameters only.
                auto_configure_optimizers=False,
                save_config_kwargs={"overwrite": True},
                args=args,
            )
        finally:
            for lock in self.locks:
                lock.release()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        base = yaml.safe_load(BASE.read_text(encoding="utf-8"))
        parser.set_defaults(seed_everything=base["seed_everything"])
        parser.set_defaults({f"trainer.{name}": value for name, value in base["trainer"].items()})
        parser.link_arguments("model.policy", "data.processor")
        parser.link_arguments("model.reference", "data.reference")
        parser.link_arguments("model.reference_source", "data.cached_reference", compute_fn=_is_cache)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's verbs without predict, which `inference` does."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Does nothing; Lightning's own would read the whole checkpoint, unchecked, for options that are not in it."""

    def before_instantiate_classes(self) -> None:
        """Checks and locks the folders, finds the checkpoint before models are loaded, and prepares the callbacks."""
        config = self.config[self.subcommand]
        folders = folders_of(config.trainer)
        folders.check()
        config.trainer.default_root_dir = str(folders.run)
        self.checkpoint = config.ckpt_path = self._find_checkpoint(config, folders)
        drop_switched_off_callbacks(config.trainer)
        send_loggers_to(config.trainer, folders.run)

    def _find_checkpoint(self, config: Namespace, folders: RunFolders) -> str | None:
        """Locks the folders against other runs and returns the checkpoint that `--ckpt_path` asks for."""
        asked, fit = str(config.get("ckpt_path") or ""), self.subcommand == "fit"
        searched = asked in ("auto", "last")
        if searched:
            refuse_hidden_checkpoints(config.trainer, folders.run)
        if fit and is_first():
            self.locks = lock_all(folders.resolved)
        elif searched and is_first():
            finish_unless_running(folders.run)
        found = find_checkpoint(asked, folders.run, list(folders.others), fit) if asked else None
        folder = Path(found).resolve().parent if searched and found else None
        self.goes_on_in = folder if folder in own_folders(folders.run) else None
        return found

    def instantiate_classes(self) -> None:
        """Makes the classes; config.yaml then says which prompt was taken."""
        super().instantiate_classes()
        data, template = self.config[self.subcommand].data, self.datamodule.processor.template
        data.template, data.trained_newline = template.name, template.trained_newline
        data.system_message = "default" if template.other_system is None else template.other_system or "none"

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Makes the trainer: checkpoints get manifests, and metrics.csv is the default logger."""
        config = self.config_init[self.subcommand].get("trainer", {})
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, ManifestCheckpointIO()]
        if config.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(config.get("default_root_dir") or "runs", name="")
        trainer = super().instantiate_trainer(**kwargs)
        refuse_callbacks(trainer)
        trainer.callbacks.append(SameCheckpoint(self.checkpoint))  # type: ignore[attr-defined]
        for callback in trainer.checkpoint_callbacks:
            if self.goes_on_in and isinstance(callback, StepCheckpoint) and callback.dirpath is None:
                callback.go_on_in(self.goes_on_in)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the verb. Raises LostRank after all processes that Lightning started here are ended."""
        with ended_everywhere("with --ckpt_path auto", "data.num_workers", lambda: self.trainer.global_step):
            launch_whole(self.trainer)
            super()._run_subcommand(subcommand)
            self.set_aside = self.datamodule.quarantine.count()


class ParsedOnly(MPOCLI):
    """Parses the options into `config` without running the verb.

    Raises:
        InputError: the options are wrong on any machine.
    """

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses `args`; Lightning's own warns if sys.argv has other words."""
        self.config = parser.parse_args(args)

    def _set_seed(self) -> None: ...

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self.subcommand].trainer
        refuse_hidden_checkpoints(trainer, folders_of(trainer).run)

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...


EXPECTED = (
    "LightningCLI's args parameter",
    "Found .* module\\(s\\) in eval mode",  # frozen parts and the reference are in eval mode
    "Total length of `list` across ranks is zero",  # validation may have no shards
    ".*your dataloader is not resumable",
    "The dirpath has changed",
    "Checkpoint directory .* exists and is not empty",  # it holds the lock's file
    "It is recommended to use .self.log.*sync_dist=True",  # logged numbers are reduced already
    "FSDP2-wrapped module .* returned a view tensor",  # nothing writes into it
)
"""Warnings that do not apply here."""


def run(args: Any = None) -> MPOCLI:
    """Parses sys.argv (or `args`) and runs the verb.

    Raises:
        InputError: the options or the input cannot be used, or the disk is full.
    """
    if args is not None and len(args) == 1:
        (verb,) = args
        raise InputError(
            f"'mpo {verb}' needs a model and shards: mpo {verb} --config recipe/mpo --model.policy MODEL --data.train "
            f"SHARDS/train; 'mpo {verb} --help' explains every option"
        )
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    try:
        with ended_by_term():
            made = MPOCLI(args)
    except Exception as error:
        if (sentence := refusal(error)) is None:
            raise
        raise InputError(sentence) from None
    if made.set_aside and made.trainer.is_global_zero:
        print(f"{made.set_aside} records were skipped; quarantine-*.jsonl in the run folder says why")
        raise SystemExit(3)
    return made


def refusal(error: Exception) -> str | None:
    """Returns the message for an error that the user can fix (a refused option, a full disk); None for others."""
    if isinstance(error.__cause__, InputError):
        return str(error.__cause__)  # jsonargparse buries the error of building an optional class
    if str(error).startswith(NO_TYPE):
        return " ".join(str(cause_of(error)).split())[:300]  # of a logger or callback that could not be built
    found: BaseException | None = error
    while found is not None and not isinstance(found, MisconfigurationException):
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    if found is not None and isinstance(error, MisconfigurationException | ValueError):
        return " ".join(str(found).split())
    frames = traceback.extract_tb(error.__traceback__)
    last = Path(frames[-1].filename) if frames else Path()
    if isinstance(error, RuntimeError) and last.name == "callback_connector.py":
        return f"trainer.callbacks: {' '.join(str(error).split())}"
    if isinstance(error, RuntimeError) and last.parent.name == "environments":
        return " ".join(str(error).split())  # what SLURM was asked for does not fit the trainer
    if (problem := disk_problem(error)) is not None:
        return problem
    if (callback := failing_callback(error)) is not None:
        return f"trainer.callbacks: {callback} cannot be used here ({' '.join(str(error).split()):.300})"
    if isinstance(error, ValueError) and last.is_relative_to(Path(L.__file__).parent):
        return " ".join(str(error).split())
    return None
