"""What lies below a run's folder, through links too: clusters put parts of a run on another disk and link to them."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from mpo_lightning.errors import InputError


def files_below(folder: Path, *patterns: str) -> Iterator[Path]:
    """Files and folders below a folder whose names fit a pattern; links to folders are followed, each folder is looked
    into once.

    Args:
        folder: where to look; nothing is found where it is not there.
        patterns: of names, as in a shell.

    Raises:
        InputError: a folder cannot be looked into.
    """

    def refuse(error: OSError) -> None:
        name = Path(error.filename).name
        of_the_system = Path(error.filename) != folder and (name.startswith(".") or name == "lost+found")
        # What is not there any more was removed by the rank that tidies up.
        if not isinstance(error, FileNotFoundError) and not of_the_system:
            raise InputError(
                f"{error.filename}: the folder cannot be looked into ({error.strerror}), so that nobody knows what a "
                "run has left there; see to that first"
            )

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        try:
            status = Path(place).stat()
        except FileNotFoundError:
            continue  # removed by the rank that tidies up
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in sorted([*folders, *files]):
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield Path(place) / name


def dead_links(folder: Path) -> Iterator[Path]:
    """Links below a run folder to folders of a run that are not there: of a disk that is not mounted, most likely."""
    yield from (path for path in files_below(folder, "version_*", "checkpoints") if path.is_symlink() and not path.exists())


def own_folders(run_folder: Path) -> list[Path]:
    """Where a run of this folder has its checkpoints unless it is told otherwise, links resolved; what lies deeper, or
    behind other links, may be another run's.
    """
    return [path.resolve() for path in [run_folder / "checkpoints", *run_folder.glob("version_*/checkpoints")] if path.is_dir()]
