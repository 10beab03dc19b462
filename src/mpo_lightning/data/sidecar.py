"""The small JSON files that lie beside shards, caches and checkpoints: what they hold is data from elsewhere."""

import json
from pathlib import Path
from typing import Any

from mpo_lightning.data.mmpr import parse_json

MOST_BYTES = 2**24
"""Of a sidecar: an index of 50,000 shards has fewer, and what is read of so many takes some hundred megabytes of memory at most."""


def read_sidecar(path: Path) -> dict[str, Any]:
    """The object in a file. Raises OSError, or ValueError for anything but strict JSON of an object, however deep it is nested, and for one that is too large."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes, and no sidecar has more than {MOST_BYTES:,}")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return value


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
