"""What lies below a run's folder, through links too: clusters put parts of a run on another disk and link to them."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path


def files_below(folder: Path, *patterns: str) -> Iterator[Path]:
    """Files and folders below a folder whose names fit a pattern; links to folders are followed, each folder is looked into once.

    Args:
        folder: where to look; nothing is found where it is not there.
        patterns: of names, as in a shell.
    """
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in sorted([*folders, *files]):
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield Path(place) / name
