"""Which checkpoint a run goes on from: found and looked at before any model is loaded, by one process for all of them."""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.data.sidecar import is_count, read_sidecar
from mpo_lightning.errors import InputError
from mpo_lightning.training.checkpoint_io import MANIFEST, manifest_of, problem_of
from mpo_lightning.training.checkpoint_recovery import NEW, OLD, finish_killed_writes
from mpo_lightning.training.sharded_checkpoint import REST

CHOSEN = "MPO_LIGHTNING_CHECKPOINT"
"""Environment variable in which a process tells those that it starts (which have a LOCAL_RANK) its number and the checkpoint that `auto` found."""


def find_checkpoint(name: str, run_folder: Path, others: Sequence[Path] = ()) -> str | None:
    """The checkpoint that `--ckpt_path NAME` means, checked; None for a fresh start.

    Only the first rank reads checkpoints. The others return whatever may be one where the first will have found one or stopped; when the
    processes know each other they compare, and take the first one's (`SameCheckpoint`).

    Args:
        name: a path; "last" for the newest last.ckpt below the run folder; "auto" for the whole checkpoint of the latest step below it, or a
            fresh start in a folder without a run; "hpc" for the one that SLURM's requeuing left.
        run_folder: `trainer.default_root_dir`.
        others: further folders that callbacks write checkpoints to.

    Raises:
        InputError: there is none, or the file is not a whole checkpoint of this package.
    """
    folders = [run_folder, *(folder for folder in others if not folder.is_relative_to(run_folder))]
    if name == "hpc":
        return name
    if name == "auto":
        # Another rank that this process's parent started takes what that one found.
        starter, _, chosen = os.environ.get(CHOSEN, "").partition(":")
        if "LOCAL_RANK" not in os.environ or starter != str(os.getppid()):
            chosen = (_newest_whole(folders) if is_first_rank() else _any_checkpoint(folders)) or ""
            os.environ[CHOSEN] = f"{os.getpid()}:{chosen}"
        return chosen or None
    if name in ("best", "registry"):
        raise InputError(
            f"--ckpt_path {name}: this command does not know which one that is; give the path of a checkpoint, or 'last'"
        )
    if name == "last":
        if is_first_rank():
            finish_killed_writes(folders)
        found = sorted((path for folder in folders for path in folder.rglob("last.ckpt")), key=lambda path: path.stat().st_mtime)
        if not found:
            raise InputError(f"--ckpt_path last: no last.ckpt below {run_folder}; leave --ckpt_path out to start a new run")
        name = str(found[-1])
    path = Path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    if is_first_rank():
        check_checkpoint(path)
    return name


def is_first_rank() -> bool:
    """Whether this process is rank 0, by what torchrun, SLURM or Lightning's launcher says; before processes know each other."""
    environment = os.environ
    for name in ("RANK", "SLURM_PROCID"):
        if name in environment:
            return environment[name] == "0"
    return environment.get("NODE_RANK", "0") == environment.get("LOCAL_RANK", "0") == "0"


def _candidates(folders: Sequence[Path]) -> list[Path]:
    """Everything under a checkpoint's name, the latest step first; of one step, the latest write."""
    found = {path.resolve() for folder in folders for path in folder.rglob("*.ckpt") if path.is_file() or path.is_dir()}
    return sorted(
        (path for path in found if not path.name.startswith(".")),
        key=lambda path: (_step(path), path.stat().st_mtime),
        reverse=True,
    )


def _step(path: Path) -> int:
    """Of a checkpoint, as its manifest says, or else its name; -1 where neither does, and above all where the manifest cannot be read, so that
    it is passed over with a word."""
    named = re.search(r"step=(\d+)", path.name)
    try:
        step: Any = read_sidecar(path / MANIFEST if path.is_dir() else manifest_of(path)).get("step")
    except (OSError, ValueError):
        return int(named[1]) if named else sys.maxsize
    return int(step) if is_count(step) else int(named[1]) if named else -1


def _newest_whole(folders: Sequence[Path]) -> str | None:
    """The whole checkpoint of the latest step, and a line for each that was passed over.

    Raises:
        InputError: there was a run, and none of its checkpoints is whole.
    """
    finish_killed_writes(folders)
    for path in _candidates(folders):
        problem = problem_of(path)
        if problem is None:
            rank_zero_info(f"--ckpt_path auto: going on from {path}")
            return str(path)
        rank_zero_info(f"--ckpt_path auto: passed over {path}: {problem}")
    for folder in folders:
        for begun in traces(folder):
            raise InputError(
                f"--ckpt_path auto: {folder} holds a run ({begun.relative_to(folder)}) but no whole checkpoint to go on from; choose another "
                "trainer.default_root_dir to start afresh, or delete the run"
            )
    rank_zero_info(f"--ckpt_path auto: nothing in {folders[0]} yet, so the run starts afresh")
    return None


def _any_checkpoint(folders: Sequence[Path]) -> str | None:
    return next(map(str, _candidates(folders)), None)


TRACES = (
    "metrics.csv", "curves.png", "alarms.jsonl", "export", ".export.*", "responses.*.jsonl", "quarantine-*.jsonl", "nonfinite-*.json", "exploding-*.json",
    "scores-*.jsonl", "*.ckpt", "*.ckpt.json", "wandb",
)  # fmt: skip
"""What a run leaves once it takes steps, or has taken them. Before, it leaves config.yaml, hparams.yaml, empty folders, and the three below."""

FIRST = f".epoch=0-step=0.ckpt{NEW}"
"""The first checkpoint, of which a kill left a part: no step was taken yet."""

EMPTY_EVENTS = 500
"""Bytes: a TensorBoard file of fewer holds no step's numbers."""


def traces(folder: Path) -> Iterator[Path]:
    """What shows that a run in a folder has taken steps."""
    for pattern in TRACES:
        yield from folder.rglob(pattern)
    for ending in (NEW, OLD):
        yield from (path for path in folder.rglob(f".*.ckpt{ending}") if path.name != FIRST)
    yield from (path for path in folder.rglob("events.out.tfevents.*") if path.stat().st_size >= EMPTY_EVENTS)
    yield from (path for path in folder.rglob("samples.jsonl") if not _all_of_the_start(path))


def _all_of_the_start(samples: Path) -> bool:
    """Whether sampled answers are all of step 0, which are sampled before the first checkpoint is written."""
    try:
        return all(json.loads(line)["step"] == 0 for line in samples.read_text(encoding="utf-8").splitlines())
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def check_checkpoint(path: Path) -> None:
    """Raises InputError unless a file, or the folder of a sharded run, is a whole checkpoint of this package."""
    path = path.resolve()
    if (path / "checkpoint" / "mp_rank_00_model_states.pt").is_file():
        return  # DeepSpeed's own, which has no manifest
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise InputError(
            f"{path}: the folder is not a checkpoint of 'mpo fit', or not a whole one; exported folders go to --model.policy"
        )
    if (path.is_dir() or manifest_of(path).is_file()) and (problem := problem_of(path)):
        raise InputError(f"{path}: the checkpoint is damaged or cut short ({problem}); --ckpt_path auto takes the newest whole one")
    try:
        # Memory-mapped: the tensors are not read.
        content = torch.load(path / REST if path.is_dir() else path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: the file is damaged, cut short, or not a checkpoint ({reason})") from None
    if not isinstance(content, dict) or not {"reward_shift", "pytorch-lightning_version"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of 'mpo fit'; exported folders go to --model.policy")
