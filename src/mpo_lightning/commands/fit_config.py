"""Checks and changes of `mpo fit`'s parsed options, before anything is built."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mpo_lightning.errors import InputError
from mpo_lightning.runs.folder import RunFolders, expanded

RUN_FOLDER = "RUN_FOLDER"
"""Value of a logger's save_dir that stands for trainer.default_root_dir."""

SWITCHES = {
    "ProgressBar": "enable_progress_bar",
    "Checkpoint": "enable_checkpointing",
    "LearningRateMonitor": "logger",
}
"""The trainer's option that turns a kind of callback off, by the ending of the callback's name."""


def listed(several: Any) -> list[Namespace]:
    """Returns the callbacks or loggers of an option that takes one, a list, or a switch."""
    return several if isinstance(several, list) else [several] if isinstance(several, Namespace) else []


def folders_of(trainer: Namespace) -> RunFolders:
    """Returns the run folder, and the other folders that callbacks write checkpoints to.

    Raises:
        InputError: a folder is a URL.
    """
    options = [one.get("init_args") or Namespace() for one in listed(trainer.get("callbacks"))]
    others = [str(found["dirpath"]) for found in options if found.get("dirpath")]
    return expanded(str(trainer.default_root_dir or "runs"), others)


def refuse_hidden_checkpoints(trainer: Namespace, run_folder: Path) -> None:
    """Raises InputError if the first logger makes Lightning write checkpoints where a resumed run does not look."""
    writers = [one for one in listed(trainer.get("callbacks")) if one.class_path.endswith("Checkpoint")]
    if writers and all((one.get("init_args") or {}).get("dirpath") for one in writers):
        return
    logger = next(iter(listed(trainer.get("logger"))), Namespace())
    place = (logger.get("init_args") or Namespace()).get("save_dir")
    if place not in (None, RUN_FOLDER) and not Path(place).resolve().is_relative_to(run_folder.resolve()):
        raise InputError(
            f"--ckpt_path: Lightning writes checkpoints to the first logger's save_dir {place}, but they are searched "
            f"in {run_folder}; set save_dir to {RUN_FOLDER}, which stands for trainer.default_root_dir, or set "
            "trainer.default_root_dir to that folder"
        )


def drop_switched_off_callbacks(trainer: Namespace) -> None:
    """Removes callbacks that the trainer's options turn off, since Lightning refuses the two together."""
    off = tuple(kind for kind, option in SWITCHES.items() if trainer.get(option) is False)
    if callbacks := listed(trainer.get("callbacks")):
        trainer.callbacks = [one for one in callbacks if not one.class_path.endswith(off)]


def send_loggers_to(trainer: Namespace, run_folder: Path) -> None:
    """Sets the save_dir of loggers that stands for the run folder."""
    for logger in listed(trainer.get("logger")):
        if (logger.get("init_args") or {}).get("save_dir") == RUN_FOLDER:
            logger.init_args.save_dir = str(run_folder)
