"""Which checkpoint a run goes on from: found and looked at before any model is loaded, by one process for all of them.
"""

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

from mpo_lightning.files.strict_json import is_count, read_sidecar
from mpo_lightning.errors import InputError
from mpo_lightning.runs.rank import is_first
from mpo_lightning.runs.checkpoints.io import MANIFEST, manifest_of, problem_of
from mpo_lightning.runs.checkpoints.recovery import NEW, OLD, finish_killed_writes, forget_cut_writes, to_be_named
from mpo_lightning.runs.folder import dead_links, files_below, own_folders
from mpo_lightning.runs.checkpoints.sharded import REST

CHOSEN = "MPO_LIGHTNING_CHECKPOINT"
"""Environment variable in which a process tells those that it starts (which have a LOCAL_RANK) its number and the
checkpoint that `auto` found.
"""


def find_checkpoint(name: str, run_folder: Path, others: Sequence[Path] = (), fit: bool = True) -> str | None:
    """The checkpoint that `--ckpt_path NAME` means, checked; None for a fresh start.

    Only the first rank reads checkpoints. The others return whatever may be one where the first will have found one or
    stopped; when the processes know each other they compare, and take the first one's (`SameCheckpoint`).

    Args:
        name: a path; "last" for the newest last.ckpt below the run folder; "auto" for the whole checkpoint of the
            latest step below it, or a fresh start in a folder without a run; "hpc" for the one that SLURM's requeuing
            left.
        run_folder: `trainer.default_root_dir`.
        others: further folders that callbacks write checkpoints to.
        fit: training goes on from it, which takes the optimizer's state, may start afresh, and puts in order what
            killed writes left; otherwise a policy is measured, perhaps beside a run.

    Raises:
        InputError: there is none, or the file is not a whole checkpoint of this package, or holds weights alone to
            train on from.
    """
    folders = [run_folder, *(folder for folder in others if not folder.is_relative_to(run_folder))]
    if name == "hpc":
        return name
    if name == "auto":
        # Another rank that this process's parent started takes what that one found.
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
        # Of other ranks. First, since rank 0 may give one its name meanwhile.
        named = [] if is_first() else [path for path in to_be_named(folders) if path.name == "last.ckpt"]
        found = sorted((path for folder in folders for path in files_below(folder, "last.ckpt")), key=_written)
        if not is_first():
            return next(map(str, [*reversed(found), *named]), None)
        if not found:
            raise InputError((f"--ckpt_path last: no last.ckpt below {run_folder}; leave --ckpt_path out to start a "
                             "new run"))
        if not found[-1].exists():
            raise InputError(
                f"--ckpt_path last: {found[-1]} is a link to a checkpoint that is not there; --ckpt_path auto takes "
                "the newest whole one"
            )
        name = str(found[-1])
    path = Path(name)
    if not path.exists():
        raise InputError(f"--ckpt_path {name}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    if is_first():
        check_checkpoint(path)
        if fit and weights_alone(path):
            raise InputError(
                f"--ckpt_path {name}: it holds weights alone ({WEIGHTS_ALONE}); 'mpo model export' makes a model of "
                "it to start from"
            )
    return name


def _candidates(folders: Sequence[Path]) -> list[Path]:
    """Everything under a checkpoint's name, the latest step first; of one step, the latest write."""
    found = {path.resolve() for folder in folders for path in files_below(folder, "*.ckpt") if path.exists()}
    return sorted(
        (path for path in found if not path.name.startswith(".")),
        key=lambda path: (_step(path), _written(path)),
        reverse=True,
    )


def _written(path: Path) -> float:
    """When, in seconds; of a link to nothing, when that was; the beginning of time for what a run beside this one has
    taken away meanwhile.
    """
    for look in (path.stat, path.lstat):
        with suppress(FileNotFoundError):
            return look().st_mtime
    return 0.0


def _step(path: Path) -> int:
    """Of a checkpoint, as its manifest says, or else its name; -1 where neither does, and above all where the manifest
    cannot be read, so that it is passed over with a word.
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
"""The option that leaves the optimizer's state out."""


def weights_alone(path: Path) -> bool:
    """Whether a whole checkpoint lacks the optimizer's state, by its manifest."""
    path = path.resolve()
    try:
        return read_sidecar(path / MANIFEST if path.is_dir() else manifest_of(path)).get("weights_alone") is True
    except (OSError, ValueError):
        return False


def _newest_whole(folders: Sequence[Path], fit: bool) -> str | None:
    """The whole checkpoint of the latest step, and a line for each that was passed over.

    Raises:
        InputError: there was a run, and none of its checkpoints is whole; or there was none, and nothing is to be
            trained.
    """
    for link in (link for folder in folders for link in dead_links(folder)):
        raise InputError((f"--ckpt_path auto: {link} is a link to a folder that is not there; mount its disk, or "
                         "delete the link"))
    if fit:
        finish_killed_writes(folders)
    for path in _candidates(folders):
        problem = problem_of(path)
        if problem is None and fit and weights_alone(path):
            problem = f"it holds weights alone ({WEIGHTS_ALONE})"
        if problem is None:
            rank_zero_info(f"--ckpt_path auto: going on from {path}")
            if fit:
                forget_cut_writes(own_folders(folders[0]))
            return str(path)
        rank_zero_info(f"--ckpt_path auto: passed over {path}: {problem}")
    for folder in folders:
        for begun in traces(folder):
            raise InputError(
                f"--ckpt_path auto: {folder} holds a run ({begun.relative_to(folder)}) but no whole checkpoint to go "
                "on from; choose another "
                "trainer.default_root_dir to start afresh, or delete the run"
            )
    if not fit:
        raise InputError(
            f"--ckpt_path auto: no checkpoint below {folders[0]}; leave it out to measure the model that "
            "--model.policy names"
        )
    rank_zero_info(f"--ckpt_path auto: nothing in {folders[0]} yet, so the run starts afresh")
    return None


def _any_checkpoint(folders: Sequence[Path]) -> str | None:
    named = list(to_be_named(folders))  # first, since rank 0 may give one its name meanwhile
    return next(map(str, [*_candidates(folders), *named]), None)


TRACES = (
    "metrics.csv", "curves.png", "alarms.jsonl", "export", ".export.*", "responses.*.jsonl", "quarantine-*.jsonl", "nonfinite-*.json", "exploding-*.json",
    "scores-*.jsonl", "*.ckpt", "*.ckpt.json", "wandb",
)
"""What a run leaves once it takes steps, or has taken them.

Before, it leaves config.yaml, hparams.yaml, empty folders, and the three below.
"""

FIRST = f".epoch=0-step=0.ckpt{NEW}"
"""The first checkpoint, of which a kill left a part: no step was taken yet."""

EMPTY_EVENTS = 500
"""Bytes: a TensorBoard file of fewer holds no step's numbers."""


def traces(folder: Path) -> Iterator[Path]:
    """What shows that a run in a folder has taken steps."""
    yield from files_below(folder, *TRACES)
    yield from (path for path in files_below(folder, *(f".*.ckpt{ending}" for ending in (NEW, OLD))) if path.name != FIRST)
    yield from (path for path in files_below(folder, "events.out.tfevents.*") if path.stat().st_size >= EMPTY_EVENTS)
    yield from (path for path in files_below(folder, "samples.jsonl") if not _all_of_the_start(path))


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
            f"{path}: the folder is not a checkpoint of 'mpo fit', or not a whole one; exported folders go to "
            "--model.policy"
        )
    problem = problem_of(path) if path.is_dir() or manifest_of(path).is_file() else _problem_of_archive(path)
    if problem:
        raise InputError((f"{path}: the checkpoint is damaged or cut short ({problem}); --ckpt_path auto takes the "
                         "newest whole one"))
    content = read_content(path / REST if path.is_dir() else path)
    if not {"reward_shift", "pytorch-lightning_version"} <= content.keys():
        raise InputError(f"{path}: not a checkpoint of 'mpo fit'; exported folders go to --model.policy")


def read_content(path: Path) -> dict[str, Any]:
    """What a checkpoint file holds; tensors are mapped, not read, and nothing in it can run.

    Raises:
        InputError: it is damaged, or no checkpoint.
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
    """Of a checkpoint that was copied without its manifest: what its own checksums say."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error, zipfile.BadZipFile):
        return None  # `read_content` says what is wrong
    return damaged and f"the bytes of {damaged} in it differ from their checksum"
