"""What `mpo fit` does to its parsed options before anything is built: named steps on jsonargparse's namespace."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mpo_lightning.errors import InputError
from mpo_lightning.runs.folder import RunFolders, expanded

RUN_FOLDER = "RUN_FOLDER"
"""A logger's save_dir that stands for trainer.default_root_dir."""

SWITCHES = {"ProgressBar": "enable_progress_bar", "Checkpoint": "enable_checkpointing"}
"""Ending of a callback's name, and the trainer's option that turns its kind off."""


def listed(several: Any) -> list[Namespace]:
    """Callbacks or loggers of an option that takes one, a list, or a switch."""
    return several if isinstance(several, list) else [several] if isinstance(several, Namespace) else []


def folders_of(trainer: Namespace) -> RunFolders:
    """The run folder, and the folders in which callbacks write checkpoints outside of it.

    Raises:
        InputError: a folder is a URL.
    """
    options = [one.get("init_args") or Namespace() for one in listed(trainer.get("callbacks"))]
    others = [str(found["dirpath"]) for found in options if found.get("dirpath")]
    return expanded(str(trainer.default_root_dir or "runs"), others)


def refuse_hidden_checkpoints(trainer: Namespace, run_folder: Path) -> None:
    """Raises InputError if the first logger makes Lightning write checkpoints where nobody looks for them."""
    writers = [one for one in listed(trainer.get("callbacks")) if one.class_path.endswith("Checkpoint")]
    if writers and all((one.get("init_args") or {}).get("dirpath") for one in writers):
        return
    logger = next(iter(listed(trainer.get("logger"))), Namespace())
    place = (logger.get("init_args") or Namespace()).get("save_dir")
    if place not in (None, RUN_FOLDER) and not Path(place).resolve().is_relative_to(run_folder.resolve()):
        raise InputError(
            f"--ckpt_path: the first logger's save_dir {place} is where Lightning puts checkpoints too, and they are "
            f"looked for in {run_folder}; set it to {RUN_FOLDER}, which stands for trainer.default_root_dir, or give "
            "trainer.default_root_dir that folder"
        )


def drop_switched_off_callbacks(trainer: Namespace) -> None:
    """Removes callbacks of a kind that the trainer's options turn off, which Lightning would refuse."""
    off = tuple(kind for kind, option in SWITCHES.items() if trainer.get(option) is False)
    if callbacks := listed(trainer.get("callbacks")):
        trainer.callbacks = [one for one in callbacks if not one.class_path.endswith(off)]


def send_loggers_to(trainer: Namespace, run_folder: Path) -> None:
    """Gives the run folder to loggers whose save_dir stands for it."""
    for logger in listed(trainer.get("logger")):
        if (logger.get("init_args") or {}).get("save_dir") == RUN_FOLDER:
            logger.init_args.save_dir = str(run_folder)
