"""Whose output a folder is: its settings lie in it from the start, so that a run that was killed goes on, and one with other settings does not mix its output in."""

import json
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.inference.parts import difference_of
from mpo_lightning.prefs.annotations import write_json


def claim(folder: Path, record: str, settings: dict[str, Any], what: str) -> None:
    """Takes an empty folder, or one that a run with the same settings has taken.

    Args:
        folder: of the output.
        record: the file in it that holds the settings.
        settings: whatever decides the output.
        what: that is made there, for messages.

    Raises:
        InputError: the folder holds something else.
    """
    now = json.loads(json.dumps(settings, default=str))
    path = folder / record
    if path.is_file():
        if (different := difference_of(json.loads(path.read_text(encoding="utf-8")), now)) is not None:
            raise InputError(f"{folder}: holds {what} made with {different}; choose another --output, or delete the folder")
        return
    if folder.exists() and any(one.name != f"{record}.partial" for one in folder.iterdir()):
        raise InputError(f"{folder}: is not empty and does not hold {what}; choose another --output")
    write_json(path, now)
