"""What a kill between the renames of a checkpoint's write left: whole, but under another name.

A checkpoint that is written over an earlier one of its name (`save_last: true`) gets its manifest, then its name; the
folder of a sharded run moves the earlier one away first. In between, neither is there under the name, and there may be
no other checkpoint.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.runs.checkpoints.io import MANIFEST, manifest_of, problem_of
from mpo_lightning.files.whole import sync_folder
from mpo_lightning.runs.folder import files_below, own_folders
from mpo_lightning.runs.lock import RunLock

NEW, OLD = ".partial", ".old"


def finish_killed_writes(folders: Sequence[Path]) -> None:
    """Gives whole checkpoints their names where nothing whole has them; the new one before the one that it was to
    replace.
    """
    for left, target in [*_left(folders, NEW), *_left(folders, OLD)]:
        manifest = None if left.is_dir() else manifest_of(target)
        if (target.exists() and problem_of(target) is None) or problem_of(left, manifest) is not None:
            continue
        if target.is_dir():
            continue  # damaged, and not by a write that was killed: those leave no folder of the name
        left.rename(target)
        sync_folder(target.parent)
        rank_zero_info(f"{target}: its write was killed after its last byte; it is whole, and has its name now")


def finish_unless_running(run_folder: Path) -> None:
    """Gives the run folder's own complete checkpoints their names, unless another run may be writing there."""
    lock = RunLock(run_folder)
    try:
        if lock.alone():
            finish_killed_writes(own_folders(run_folder))
    finally:
        lock.release()


def forget_cut_writes(folders: Sequence[Path]) -> None:
    """Removes what writes left that were killed before their last byte, each as large as a checkpoint; for a run that
    goes on, in its own folders, where nothing else writes.
    """
    for left, target in _left(folders, NEW):
        if left.parent.resolve() in folders and problem_of(left, None if left.is_dir() else manifest_of(target)) is not None:
            rank_zero_info(f"{left}: its write was killed; what is there of it is removed")
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def to_be_named(folders: Sequence[Path]) -> Iterator[Path]:
    """The names that `finish_killed_writes` may give, by what shows without reading the checkpoints."""
    for left, target in [*_left(folders, NEW), *_left(folders, OLD)]:
        if (left / MANIFEST if left.is_dir() else manifest_of(target)).is_file():
            yield target


def _left(folders: Sequence[Path], ending: str) -> Iterator[tuple[Path, Path]]:
    """What was left under another name, and the name it was for."""
    for left in sorted(path for folder in folders for path in files_below(folder, f".*.ckpt{ending}")):
        yield left, left.with_name(left.name.removeprefix(".").removesuffix(ending))
