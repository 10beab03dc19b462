"""JSON as the standard has it, and the small JSON files that lie beside shards, caches and checkpoints: data from
elsewhere.
"""

import json
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 2**24
"""Of a sidecar: an index of 50,000 shards has fewer, and what is read of so many takes some hundred megabytes of memory
at most.
"""


def parse_json(text: str) -> Any:
    """JSON as the standard has it. What Python's reader lets through in silence is refused with ValueError: NaN,
    infinities, a key that comes twice (the first value would be lost), and half of a surrogate pair.
    """

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON value")

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(f"{digits} is too large for a number")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' comes twice")
        return fields

    try:
        value = json.loads(text, parse_constant=constant, parse_float=finite, object_pairs_hook=unique)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return value


def read_sidecar(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises OSError, or ValueError for anything but strict JSON of an object, however deep it is nested, and for one that
    is too large.
    """
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
