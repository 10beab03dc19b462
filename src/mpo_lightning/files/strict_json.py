"""Strict JSON, and the small JSON files beside shards, caches and checkpoints, which may come from elsewhere."""

import json
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 2**24
"""Largest sidecar. An index of 50,000 shards is smaller, and parsing this much takes some hundred megabytes at most."""


def parse_json(text: str) -> Any:
    """Parses JSON by the standard.

    Raises ValueError for what Python's parser accepts silently: NaN, infinities, a repeated key (whose first value
    would be lost), and half of a surrogate pair.
    """

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON value")

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(f"{digits:.100} is too large for a number")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1):.100}' appears twice")
        return fields

    try:
        value = json.loads(text, parse_constant=constant, parse_float=finite, object_pairs_hook=unique)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it contains half of a surrogate pair, which is not a character") from None
    return value


def read_sidecar(path: Path) -> dict[str, Any]:
    """Reads the JSON object in a file.

    Raises OSError, or ValueError for a file that is too large or is not a strict JSON object, at any depth.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes; the limit for a sidecar is {MOST_BYTES:,}")
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value


def is_count(value: object) -> bool:
    """Whether a value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
