"""The settings that decided an output, recorded beside it: a killed run goes on, and one with other settings does not
mix its output in.
"""

import json
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import partial_of, write_json


def difference_of(earlier: Any, now: Any, name: str = "") -> str | None:
    """The first setting in which two records differ, with both values: "sampling.seed 3 instead of 4"; None for equal
    ones.

    Args:
        earlier: a record, as JSON.
        now: the same of this run.
        name: of what is compared.
    """
    if earlier == now:
        return None
    if isinstance(earlier, list) and isinstance(now, list):
        earlier, now = dict(enumerate(earlier)), dict(enumerate(now))
    if isinstance(earlier, dict) and isinstance(now, dict):
        for part in [*earlier, *(part for part in now if part not in earlier)]:
            if (
                found := difference_of(earlier.get(part), now.get(part), f"{name}.{part}" if name else str(part))
            ) is not None:
                return found
        return None
    return f"{name} {earlier!s:.60} instead of {now!s:.60}"


def recorded_difference(record: Path, settings: dict[str, Any]) -> str | None:
    """The first setting in which an earlier run differed, as in `difference_of`. Without a record these settings become
    it.

    Args:
        record: the JSON file of settings.
        settings: whatever decides the output.
    """
    if record.is_file():
        now = json.loads(json.dumps(settings, default=str))
        return difference_of(json.loads(record.read_text(encoding="utf-8")), now)
    write_json(record, json.loads(json.dumps(settings, default=str)), several_writers=True)
    return None


def take_output_folder(folder: Path, record: str, settings: dict[str, Any], what: str) -> None:
    """Takes an empty folder, or one that an earlier run with the same settings took.

    Args:
        folder: of the output.
        record: name of the file in it that holds the settings.
        settings: whatever decides the output.
        what: names the output in messages.

    Raises:
        InputError: the folder holds something else.
    """
    path = folder / record
    if not path.is_file() and folder.exists():
        own = f"{partial_of(path).name.removesuffix('partial')}"
        if any(not one.name.startswith(own) for one in folder.iterdir()):
            raise InputError(f"{folder}: is not empty and does not hold {what}; choose another --output")
    if (different := recorded_difference(path, settings)) is not None:
        raise InputError(f"{folder}: holds {what} made with {different}; choose another --output, or delete the folder")
