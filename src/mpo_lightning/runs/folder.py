"""Files of a run's folder, links included: clusters often keep parts of a run on another disk and link to them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class RunFolders:
    """Where a run writes.

    Attributes:
        run: the run folder, `trainer.default_root_dir`.
        others: folders of checkpoints outside of it.
    """

    run: Path
    others: tuple[Path, ...] = ()

    @property
    def resolved(self) -> list[Path]:
        """Every folder once, links resolved."""
        return sorted({path.resolve() for path in (self.run, *self.others)})

    def check(self) -> None:
        """Raises InputError if a folder's place is taken by a file, or by a link to nothing."""
        named = [("trainer.default_root_dir", self.run), *(("dirpath", folder) for folder in self.others)]
        for name, place in named:
            if place.exists() and not place.is_dir():
                raise InputError(f"{name}: {place} is a file; give a folder for the run")
            if place.is_symlink() and not place.exists():
                raise InputError(
                    f"{name}: {place} is a link to a folder that is not there; mount its disk, or give another"
                )


def expanded(run: str, others: Sequence[str] = ()) -> RunFolders:
    """The folders with ~ expanded, as Lightning does it.

    Raises:
        InputError: a folder is a URL, which would become a folder of that name here.
    """
    for folder in (run, *others):
        if "://" in folder:
            raise InputError(
                f"{folder}: checkpoints are written to a disk that all machines share, not to a URL; give a folder"
            )
    # Path's own expansion raises for a user that is not there.
    run_folder, *rest = (Path(os.path.expanduser(folder)) for folder in (run, *others))  # noqa: PTH111
    return RunFolders(run_folder, tuple(rest))


def files_below(folder: Path, *patterns: str) -> Iterator[Path]:
    """Yields files and folders below a folder whose names match a pattern.

    Links to folders are followed, and each folder is visited once.

    Args:
        folder: folder to search; a missing one yields nothing.
        patterns: shell patterns for names.

    Raises:
        InputError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        name = Path(error.filename).name
        of_the_system = Path(error.filename) != folder and (name.startswith(".") or name == "lost+found")
        # A missing folder was removed by the rank that cleans up.
        if not isinstance(error, FileNotFoundError) and not of_the_system:
            raise InputError(
                f"{error.filename}: cannot read the folder ({error.strerror}); fix its permissions and retry"
            )

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        try:
            status = Path(place).stat()
        except FileNotFoundError:
            continue  # removed by the rank that cleans up
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in sorted([*folders, *files]):
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield Path(place) / name


def dead_links(folder: Path) -> Iterator[Path]:
    """Yields links to missing folders of a run; most likely their disk is not mounted."""
    yield from (
        path for path in files_below(folder, "version_*", "checkpoints") if path.is_symlink() and not path.exists()
    )


def own_folders(run_folder: Path) -> list[Path]:
    """Returns a run's default checkpoint folders, with links resolved.

    Folders that lie deeper, or behind other links, may belong to another run.
    """
    return [
        path.resolve()
        for path in [run_folder / "checkpoints", *run_folder.glob("version_*/checkpoints")]
        if path.is_dir()
    ]
