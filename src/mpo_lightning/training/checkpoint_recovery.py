"""What a kill between the renames of a checkpoint's write left: whole, but under another name.

A checkpoint that is written over an earlier one of its name (`save_last: true`) gets its manifest, then its name; the folder of a sharded
run moves the earlier one away first. In between, neither is there under the name, and there may be no other checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from mpo_lightning.training.checkpoint_io import manifest_of, problem_of, sync_folder

NEW, OLD = ".partial", ".old"


def finish_killed_writes(folders: Sequence[Path]) -> None:
    """Gives whole checkpoints their names where nothing whole has them; the new one before the one that it was to replace."""
    for ending in (NEW, OLD):
        for left in sorted(path for folder in folders for path in folder.rglob(f".*.ckpt{ending}")):
            target = left.with_name(left.name.removeprefix(".").removesuffix(ending))
            manifest = None if left.is_dir() else manifest_of(target)
            if (target.exists() and problem_of(target) is None) or problem_of(left, manifest) is not None:
                continue
            if target.is_dir():
                continue  # damaged, and not by a write that was killed: those leave no folder of the name
            left.rename(target)
            sync_folder(target.parent)
            rank_zero_info(f"{target}: its write was killed after its last byte; it is whole, and has its name now")
