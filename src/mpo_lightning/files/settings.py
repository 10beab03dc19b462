"""Records the settings of an output beside it, so that a run resumes only an output of the same settings."""

import json
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import partial_of, write_json


def difference_of(earlier: Any, now: Any, name: str = "") -> str | None:
    """The first setting in which two records differ: "sampling.seed 3 instead of 4"; None if they are equal.

    Args:
        earlier: earlier record, as JSON.
        now: record of this run.
        name: name of the compared setting.
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
    """The first setting in which an earlier run differs, as in `difference_of`; the first run records its settings.

    Args:
        record: JSON file of the settings.
        settings: all settings that decide the output.
    """
    if record.is_file():
        now = json.loads(json.dumps(settings, default=str))
        return difference_of(json.loads(record.read_text(encoding="utf-8")), now)
    write_json(record, json.loads(json.dumps(settings, default=str)), several_writers=True)
    return None


def take_output_folder(folder: Path, record: str, settings: dict[str, Any], what: str) -> None:
    """Claims an empty folder, or one that an earlier run with the same settings claimed.

    Args:
        folder: output folder.
        record: name of the settings file in it.
        settings: all settings that decide the output.
        what: name of the output in messages.

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
