"""LightningCLI for `mpo fit|validate|test`."""

import os
import traceback
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from safetensors import SafetensorError

from mpo_lightning.commands.parser import RefusesInASentence
from mpo_lightning.errors import InputError
from mpo_lightning.files.disk import disk_problem
from mpo_lightning.runs.checkpoints.callback import StepCheckpoint
from mpo_lightning.runs.checkpoints.choice import find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.runs.checkpoints.rank_agreement import SameCheckpoint
from mpo_lightning.runs.checkpoints.recovery import finish_killed_writes
from mpo_lightning.runs.folder import own_folders
from mpo_lightning.runs.lock import RunLock
from mpo_lightning.runs.lost_ranks import ended_everywhere, launch_whole
from mpo_lightning.runs.rank import is_first
from mpo_lightning.runs.signals import ended_by_term
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule


def _is_cache(source: str) -> bool:
    return source == "cache"


def _listed(several: Any) -> list[Namespace]:
    """Callbacks or loggers of an option that takes one, a list, or a switch."""
    return several if isinstance(several, list) else [several] if isinstance(several, Namespace) else []


def _checkpoint_folders(config: Namespace) -> list[Path]:
    """Where callbacks write checkpoints that do not lie in the run folder.

    Raises:
        InputError: a folder is a URL, which would become one of that name here.
    """
    options = [one.get("init_args") or Namespace() for one in _listed(config.trainer.get("callbacks"))]
    folders = [str(found["dirpath"]) for found in options if found.get("dirpath")]
    for folder in (str(config.trainer.default_root_dir or ""), *folders):
        if "://" in folder:
            raise InputError(
                f"{folder}: checkpoints are written to a disk that all machines share, not to a URL; give a folder"
            )
    return [_expanded(folder) for folder in folders]


def _expanded(folder: str) -> Path:
    """With ~, as Lightning has it; Path's own raises for a user that is not there."""
    return Path(os.path.expanduser(folder))  # noqa: PTH111


def _refuse_hidden_checkpoints(config: Namespace, run_folder: Path) -> None:
    """Raises InputError where the first logger has Lightning put checkpoints into a folder in which nobody looks for
    them.
    """
    writers = [one for one in _listed(config.trainer.get("callbacks")) if one.class_path.endswith("Checkpoint")]
    if writers and all((one.get("init_args") or {}).get("dirpath") for one in writers):
        return
    logger = next(iter(_listed(config.trainer.get("logger"))), Namespace())
    place = (logger.get("init_args") or Namespace()).get("save_dir")
    if place not in (None, RUN_FOLDER) and not Path(place).resolve().is_relative_to(run_folder.resolve()):
        raise InputError(
            f"--ckpt_path: the first logger's save_dir {place} is where Lightning puts checkpoints too, and they are "
            f"looked for in {run_folder}; set it to "
            f"{RUN_FOLDER}, which stands for trainer.default_root_dir, or give trainer.default_root_dir that folder"
        )


RUN_FOLDER = "RUN_FOLDER"
"""A logger's save_dir that stands for trainer.default_root_dir."""


SWITCHES = {"ProgressBar": "enable_progress_bar", "Checkpoint": "enable_checkpointing"}
"""Ending of a callback's name, and the trainer's option that turns its kind off."""


class FitParser(RefusesInASentence, LightningArgumentParser):
    """Of the options of `mpo fit|validate|test`."""


class MPOCLI(LightningCLI):
    """The module and the data module are fixed; the tokenizer always comes from the policy's folder."""

    locks: tuple[RunLock, ...] = ()

    def __init__(self, args: Any = None) -> None:
        """Parses sys.argv, or `args`, and runs the verb, as LightningCLI does."""
        try:
            super().__init__(
                MPOModule,
                MMPRDataModule,
                parser_class=FitParser,
                parser_kwargs={"prog": "mpo"},
                # The optimizer is MPOModule's own: built after configure_model, over trained parameters only, stepping
                # per step.
                auto_configure_optimizers=False,
                save_config_kwargs={"overwrite": True},
                args=args,
            )
        finally:
            for lock in self.locks:
                lock.release()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.policy", "data.processor")
        parser.link_arguments("model.reference", "data.reference")
        parser.link_arguments("model.reference_source", "data.cached_reference", compute_fn=_is_cache)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Without predict, which generates answers and is not a verb of the trainer's (`inference`)."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Lightning's own reads the whole checkpoint, unchecked, for options that this module does not keep there."""

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint before any model is loaded, and gives loggers the run folder."""
        config = self.config[self.subcommand]
        others = _checkpoint_folders(config)
        run_folder = config.trainer.default_root_dir = str(_expanded(config.trainer.default_root_dir or "runs"))
        for name, place in (
            ("trainer.default_root_dir", Path(run_folder)),
            *(("dirpath", folder) for folder in others),
        ):
            if place.exists() and not place.is_dir():
                raise InputError(f"{name}: {place} is a file; give a folder for the run")
            if place.is_symlink() and not place.exists():
                raise InputError(
                    f"{name}: {place} is a link to a folder that is not there; mount its disk, or give another"
                )
        asked = str(config.get("ckpt_path") or "")
        if asked in ("auto", "last"):
            _refuse_hidden_checkpoints(config, Path(run_folder))
        fit = self.subcommand == "fit"
        if fit and is_first():
            self.locks = tuple(
                RunLock(folder) for folder in sorted({path.resolve() for path in (Path(run_folder), *others)})
            )
            for lock in self.locks:
                lock.take()
        elif asked in ("auto", "last") and is_first():
            self.locks = (RunLock(Path(run_folder)),)
            if self.locks[0].alone():
                finish_killed_writes(own_folders(Path(run_folder)))
            self.locks[0].release()
        if asked:
            config.ckpt_path = find_checkpoint(asked, Path(run_folder), others, fit)
        self.checkpoint = config.get("ckpt_path")
        folder = Path(self.checkpoint).resolve().parent if asked in ("auto", "last") and self.checkpoint else None
        self.goes_on_in = folder if folder in own_folders(Path(run_folder)) else None
        # Lightning refuses a callback of a kind that is switched off; the shipped base has both kinds.
        off = [kind for kind, on in SWITCHES.items() if config.trainer.get(on) is False]
        callbacks = _listed(config.trainer.get("callbacks"))
        if callbacks:
            config.trainer.callbacks = [one for one in callbacks if not one.class_path.endswith(tuple(off))]
        for logger in _listed(config.trainer.get("logger")):
            if (logger.get("init_args") or {}).get("save_dir") == RUN_FOLDER:
                logger.init_args.save_dir = run_folder

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Checkpoints get manifests; without a logger of the user's own, metrics.csv goes into the run folder."""
        config = self._get(self.config_init, "trainer", default={})
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, ManifestCheckpointIO()]
        if config.get("logger") in (None, True):
            kwargs["logger"] = CSVLogger(config.get("default_root_dir") or "runs", name="")
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(SameCheckpoint(self.checkpoint))  # type: ignore[attr-defined]
        for callback in trainer.checkpoint_callbacks:
            if self.goes_on_in and isinstance(callback, StepCheckpoint) and callback.dirpath is None:
                callback.go_on_in(self.goes_on_in)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Raises LostRank, after the processes that Lightning started here were ended, stopped ones too."""
        with ended_everywhere("with --ckpt_path auto", "data.num_workers", lambda: self.trainer.global_step):
            launch_whole(self.trainer)
            super()._run_subcommand(subcommand)
            self.set_aside = self.datamodule.quarantine.count()


class ParsedOnly(MPOCLI):
    """Its `config` is what the verb would run with; nothing is seeded, built or run.

    Raises:
        InputError: the options alone are wrong, whatever is on this machine.
    """

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Lightning's own warns of `args` beside those of another verb."""
        self.config = parser.parse_args(args)

    def _set_seed(self) -> None: ...

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        _checkpoint_folders(config)
        _refuse_hidden_checkpoints(config, _expanded(config.trainer.default_root_dir or "runs"))

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...


def run(args: Any = None) -> MPOCLI:
    """Parses sys.argv (or `args`, in tests) and runs the verb."""
    # The policy's frozen parts and the reference are in eval mode on purpose; validation may have no shards.
    for message in (
        "Found .* module\\(s\\) in eval mode",
        "Total length of `list` across ranks is zero",
        ".*your dataloader is not resumable",
        "The dirpath has changed",
        "Checkpoint directory .* exists and is not empty",  # the lock's file
        "It is recommended to use .self.log.*sync_dist=True",  # they are reduced already
        "FSDP2-wrapped module .* returned a view tensor",  # nothing writes into it
    ):
        warnings.filterwarnings("ignore", message=message)
    try:
        with ended_by_term():
            made = MPOCLI(args)
        if made.set_aside and made.trainer.is_global_zero:
            print(f"{made.set_aside} records were set aside; quarantine-*.jsonl in the run folder says why")
            raise SystemExit(3)
        return made
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from None
    except RuntimeError as error:
        if "stateful callback" not in str(error):
            raise
        raise InputError(f"trainer.callbacks: {' '.join(str(error).split())}") from None
    except ValueError as error:
        # jsonargparse buries what an optional class says when it is built.
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if (refused := _refused_by_lightning(error)) is not None:
            raise InputError(" ".join(str(refused).split())) from None
        if _raised_by_lightning(error):
            raise InputError(" ".join(str(error).split())) from None
        raise
    except (OSError, SafetensorError) as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise InputError(problem) from None


def _refused_by_lightning(error: BaseException | None) -> MisconfigurationException | None:
    """What lies below an error, if Lightning has refused an option."""
    while error is not None and not isinstance(error, MisconfigurationException):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error


def _raised_by_lightning(error: Exception) -> bool:
    """Whether Lightning says so of its options, in sentences for users."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(L.__file__).parent)
