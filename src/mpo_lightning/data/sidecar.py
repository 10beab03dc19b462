"""The small JSON files that lie beside shards, caches and checkpoints: what they hold is data from elsewhere."""

from pathlib import Path
from typing import Any

from mpo_lightning.data.mmpr import parse_json


def read_sidecar(path: Path) -> dict[str, Any]:
    """The object in a file. Raises OSError, or ValueError for anything but strict JSON of an object, however deep it is nested."""
    value = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
