"""Chooses the checkpoint that a run resumes from; one process finds and checks it before any model is loaded."""

import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.errors import InputError
from mpo_lightning.files.strict_json import is_count, read_sidecar
from mpo_lightning.runs.checkpoints.io import MANIFEST, manifest_of, problem_of
from mpo_lightning.runs.checkpoints.recovery import NEW, OLD, finish_killed_writes, forget_cut_writes, to_be_named
from mpo_lightning.runs.checkpoints.sharded import REST
from mpo_lightning.runs.folder import dead_links, files_below, own_folders
from mpo_lightning.runs.rank import is_first

CHOSEN = "MPO_LIGHTNING_CHECKPOINT"
"""Environment variable that passes the checkpoint found by `auto` to child processes.

It holds the parent's process id and the checkpoint; child processes are recognized by LOCAL_RANK.
"""


def find_checkpoint(name: str, run_folder: Path, others: Sequence[Path] = (), fit: bool = True) -> str | None:
    """Finds and checks the checkpoint that `--ckpt_path NAME` means; returns None for a fresh start.

    Only rank 0 reads checkpoints. The other ranks return any candidate if rank 0 must have found one or stopped. Once
    the process group exists, ranks compare and use rank 0's choice (`SameCheckpoint`).

    Args:
        name: a path; "last" for the newest last.ckpt below the run folder; "auto" for the intact checkpoint of the
            latest step below it, or a fresh start in a folder without a run; "hpc" for the checkpoint that SLURM's
            requeuing left.
        run_folder: `trainer.default_root_dir`.
        others: further folders that callbacks write checkpoints to.
        fit: whether training resumes from it. Training needs the optimizer's state, may start afresh, and cleans up
            after killed writes. Otherwise a policy is evaluated, perhaps while a run is writing.

    Raises:
        InputError: there is no checkpoint, the file is not an intact checkpoint of this package, or it holds only
            weights and training cannot resume from it.
    """
    folders = [run_folder, *(folder for folder in others if not folder.is_relative_to(run_folder))]
    if name == "hpc":
        return name
    if name == "auto":
        # A rank started by another rank uses the checkpoint that its parent found.
        starter, _, chosen = os.environ.get(CHOSEN, "").partition(":")
        if "LOCAL_RANK" not in os.environ or starter != str(os.getppid()):
            chosen = (_newest_whole(folders, fit) if is_first() else _any_checkpoint(folders)) or ""
            os.environ[CHOSEN] = f"{os.getpid()}:{chosen}"
        return chosen or None
    if name in ("best", "registry"):
        raise InputError(
            f"--ckpt_path {name}: this command does not know which one that is; give the path of a checkpoint, or "
            "'last'"
        )
    if name == "last":
        if is_first() and fit:
            finish_killed_writes(folders)
        # For other ranks. Listed first, since rank 0 may rename one meanwhile.
        named = [] if is_first() else [path for path in to_be_named(folders) if path.name == "last.ckpt"]
        found = sorted((path for folder in folders for path in files_below(folder, "last.ckpt")), key=_written)
        if not is_first():
            return next(map(str, [*reversed(found), *named]), None)
        if not found:
            raise InputError(
                f"--ckpt_path last: no last.ckpt below {run_folder}; leave --ckpt_path out to start a new run"
            )
        if not found[-1].exists():
            raise InputError(
                f"--ckpt_path last: {found[-1]} is a link to a checkpoint that is not there; --ckpt_path auto takes "
                "the newest intact one"
            )
        name = str(found[-1])
    path = Path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    if is_first():
        check_checkpoint(path)
        if fit and weights_alone(path):
            raise InputError(
                f"--ckpt_path {name}: it holds only weights ({WEIGHTS_ALONE}); 'mpo model export' makes a model "
                "from it to start a new run"
            )
    return name


def _candidates(folders: Sequence[Path]) -> list[Path]:
    """Returns all checkpoint paths, the latest step first and within a step the latest write."""
    found = {path.resolve() for folder in folders for path in files_below(folder, "*.ckpt") if path.exists()}
    return sorted(
        (path for path in found if not path.name.startswith(".")),
        key=lambda path: (_step(path), _written(path)),
        reverse=True,
    )


def _written(path: Path) -> float:
    """Returns when a checkpoint was written, in seconds.

    For a dead link that is the link's own time. A checkpoint that a concurrent run has removed gives 0.
    """
    for look in (path.stat, path.lstat):
        with suppress(FileNotFoundError):
            return look().st_mtime
    return 0.0


def _step(path: Path) -> int:
    """Returns a checkpoint's step from its manifest, else from its name, else -1.

    If there is no step in the name and the manifest cannot be read, it returns a maximum, so that the checkpoint is
    examined and reported as skipped.
    """
    named = re.search(r"step=(\d+)", path.name)
    manifest = path / MANIFEST if path.is_dir() else manifest_of(path)
    try:
        if not manifest.is_file():
            return int(named[1]) if named else sys.maxsize
        step: Any = read_sidecar(manifest).get("step")
    except (OSError, ValueError):
        return int(named[1]) if named else sys.maxsize
    return int(step) if is_count(step) else int(named[1]) if named else -1


WEIGHTS_ALONE = "save_weights_only"
"""The option that leaves out the optimizer's state."""


def weights_alone(path: Path) -> bool:
    """Whether an intact checkpoint lacks the optimizer's state, by its manifest."""
    path = path.resolve()
    try:
        return read_sidecar(path / MANIFEST if path.is_dir() else manifest_of(path)).get("weights_alone") is True
    except (OSError, ValueError):
        return False


def _newest_whole(folders: Sequence[Path], fit: bool) -> str | None:
    """Returns the intact checkpoint of the latest step and logs a line for each one skipped.

    Raises:
        InputError: the folder has a run without an intact checkpoint, or it has no run and nothing is to be trained.
    """
    for link in (link for folder in folders for link in dead_links(folder)):
        raise InputError(
            f"--ckpt_path auto: {link} is a link to a folder that is not there; mount its disk, or delete the link"
        )
    if fit:
        finish_killed_writes(folders)
    for path in _candidates(folders):
        problem = problem_of(path)
        if problem is None and fit and weights_alone(path):
            problem = f"it holds only weights ({WEIGHTS_ALONE})"
        if problem is None:
            rank_zero_info(f"--ckpt_path auto: resuming from {path}")
            if fit:
                forget_cut_writes(own_folders(folders[0]))
            return str(path)
        rank_zero_info(f"--ckpt_path auto: skipped {path}: {problem}")
    for folder in folders:
        for begun in traces(folder):
            raise InputError(
                f"--ckpt_path auto: {folder} holds a run ({begun.relative_to(folder)}) but no intact checkpoint to "
                "resume from; choose another trainer.default_root_dir to start afresh, or delete the run"
            )
    if not fit:
        raise InputError(
            f"--ckpt_path auto: no checkpoint below {folders[0]}; leave it out to measure the model that "
            "--model.policy names"
        )
    rank_zero_info(f"--ckpt_path auto: no run in {folders[0]} yet, so this one starts afresh")
    return None


def _any_checkpoint(folders: Sequence[Path]) -> str | None:
    named = list(to_be_named(folders))  # listed first, since rank 0 may rename one meanwhile
    return next(map(str, [*_candidates(folders), *named]), None)


TRACES = (
    "metrics.csv",
    "curves.png",
    "alarms.jsonl",
    "export",
    ".export.*",
    "responses.*.jsonl",
    "quarantine-*.jsonl",
    "nonfinite-*.json",
    "exploding-*.json",
    "scores-*.jsonl",
    "*.ckpt",
    "*.ckpt.json",
    "wandb",
)
"""Files of a run that has started to take steps.

Before that a run leaves config.yaml, hparams.yaml, empty folders, and the files that `traces` excludes.
"""

FIRST = f".epoch=0-step=0.ckpt{NEW}"
"""Partial first checkpoint of a killed run, which has taken no step yet."""

EMPTY_EVENTS = 500
"""Size in bytes below which a TensorBoard file holds no metrics of a step."""


def traces(folder: Path) -> Iterator[Path]:
    """Yields files which show that a run in a folder has taken steps."""
    yield from files_below(folder, *TRACES)
    yield from (
        path for path in files_below(folder, *(f".*.ckpt{ending}" for ending in (NEW, OLD))) if path.name != FIRST
    )
    yield from (path for path in files_below(folder, "events.out.tfevents.*") if path.stat().st_size >= EMPTY_EVENTS)
    yield from (path for path in files_below(folder, "samples.jsonl") if not _all_of_the_start(path))


def _all_of_the_start(samples: Path) -> bool:
    """Whether all sampled responses are of step 0, sampled before the first checkpoint is written."""
    try:
        return all(json.loads(line)["step"] == 0 for line in samples.read_text(encoding="utf-8").splitlines())
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def check_checkpoint(path: Path) -> None:
    """Checks that a file, or the folder of a sharded run, is an intact checkpoint of this package.

    Raises:
        InputError: it is not.
    """
    path = path.resolve()
    if (path / "checkpoint" / "mp_rank_00_model_states.pt").is_file():
        return  # DeepSpeed's checkpoint, which has no manifest
    if path.is_dir() and not (path / MANIFEST).is_file():
        raise InputError(
            f"{path}: the folder is not a checkpoint of 'mpo fit', or not an intact one; exported folders go to "
            "--model.policy"
        )
    problem = problem_of(path) if path.is_dir() or manifest_of(path).is_file() else _problem_of_archive(path)
    if problem:
        raise InputError(
            f"{path}: the checkpoint is damaged or cut short ({problem}); --ckpt_path auto takes the newest intact one"
        )
    content = read_content(path / REST if path.is_dir() else path)
    if not {"reward_shift", "pytorch-lightning_version"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of 'mpo fit'; exported folders go to --model.policy")


def read_content(path: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint file; tensors are memory-mapped, and no code in it can run.

    Raises:
        InputError: the file is damaged or not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        if isinstance(content, dict):
            return content
        reason = f"it holds a {type(content).__name__}"
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        EOFError,
        TypeError,
        AttributeError,
        MemoryError,
        UnpicklingError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise InputError(f"{path}: the file is damaged, cut short, or not a checkpoint ({reason})")


def _problem_of_archive(path: Path) -> str | None:
    """Checks a checkpoint that was copied without its manifest by the archive's own checksums; None if intact."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile):
        return None  # `read_content` reports the problem
    return damaged and f"the bytes of {damaged} in it differ from their checksum"
