"""Recovers checkpoints after a kill between the renames of a write, which leaves them intact under another name.

A checkpoint that replaces an earlier one of its name (`save_last: true`) gets its manifest first and then its name. The
folder of a sharded run moves the earlier one away first. In between, the name belongs to neither, and there may be no
other checkpoint.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.files.whole import sync_folder
from mpo_lightning.runs.checkpoints.io import MANIFEST, manifest_of, problem_of
from mpo_lightning.runs.folder import files_below, own_folders
from mpo_lightning.runs.lock import RunLock

NEW, OLD = ".partial", ".old"


def finish_killed_writes(folders: Sequence[Path]) -> None:
    """Renames intact checkpoints if there is no intact one under their name.

    The new checkpoint has priority over the one that it was to replace.
    """
    for left, target in [*_left(folders, NEW), *_left(folders, OLD)]:
        manifest = None if left.is_dir() else manifest_of(target)
        if (target.exists() and problem_of(target) is None) or problem_of(left, manifest) is not None:
            continue
        if target.is_dir():
            continue  # damaged otherwise: a killed write leaves no folder of this name
        left.rename(target)
        sync_folder(target.parent)
        rank_zero_info(f"{target}: its write was killed before the last rename; it is intact and has its name now")


def finish_unless_running(run_folder: Path) -> None:
    """Gives the run folder's own complete checkpoints their names, unless another run may be writing there."""
    lock = RunLock(run_folder)
    try:
        if lock.alone():
            finish_killed_writes(own_folders(run_folder))
    finally:
        lock.release()


def forget_cut_writes(folders: Sequence[Path]) -> None:
    """Removes the partial checkpoints of killed writes, each up to the size of a checkpoint.

    Only for a run that resumes, in its own folders, where no other process writes.
    """
    for left, target in _left(folders, NEW):
        if (
            left.parent.resolve() in folders
            and problem_of(left, None if left.is_dir() else manifest_of(target)) is not None
        ):
            rank_zero_info(f"{left}: its write was killed; the incomplete checkpoint is removed")
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def to_be_named(folders: Sequence[Path]) -> Iterator[Path]:
    """Yields the names that `finish_killed_writes` may restore, without reading the checkpoints."""
    for left, target in [*_left(folders, NEW), *_left(folders, OLD)]:
        if (left / MANIFEST if left.is_dir() else manifest_of(target)).is_file():
            yield target


def _left(folders: Sequence[Path], ending: str) -> Iterator[tuple[Path, Path]]:
    """Yields checkpoints left under another name, each with its intended name."""
    for left in sorted(path for folder in folders for path in files_below(folder, f".*.ckpt{ending}")):
        yield left, left.with_name(left.name.removeprefix(".").removesuffix(ending))
