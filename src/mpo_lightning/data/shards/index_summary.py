"""Reads the summary of an index and checks that it is plausible, since all of it may come from elsewhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.data.annotations.mmpr import is_repeat_time
from mpo_lightning.files.strict_json import is_count, read_sidecar

FORMAT = 3
FORMATS = (2, FORMAT)
"""The formats that can be read. In format 2 a sample is one pair, so its rows do not name their answers."""
MAX_NAME_BYTES = 200
"""Longest name of a shard: file systems allow 255 bytes, and the copy in a cache has a longer name."""
ROWS_AT_ONCE = 2**20
"""Number of rows checked at once, so that checking takes little memory."""


@dataclass(frozen=True)
class ShardEntry:
    """One tar file of the folder."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DatasetEntry:
    """One data set of the meta file, with its repeat_time."""

    name: str
    repeat_time: float = 1.0


def read_summary(path: Path) -> dict[str, Any]:
    """Reads an index.json. Raises ValueError, KeyError, TypeError or AttributeError for implausible content."""
    summary = read_sidecar(path)
    if summary["format"] not in FORMATS:
        raise ValueError(f"it has format {summary['format']}, this version reads {' and '.join(map(str, FORMATS))}")
    shards = tuple(ShardEntry(**entry) for entry in summary["shards"])
    datasets = tuple(DatasetEntry(**entry) for entry in summary["datasets"])
    if not is_count(summary["records"]):
        raise ValueError(f"its number of records is {summary['records']!r}")
    if set(summary["arrays"]) != {"records", "members"}:
        raise ValueError("it does not name the arrays records and members")
    for name in (*summary["arrays"].values(), *(shard.name for shard in shards)):
        if not isinstance(name, str) or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"{repr(name)[:60]} is not a file name")
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"the name {name!r} leads out of the folder")
    if len({shard.name for shard in shards}) != len(shards):
        raise ValueError("it names a shard twice")
    for shard in shards:
        if not (is_count(shard.records) and is_count(shard.bytes)):
            raise ValueError(f"records or bytes of {shard.name} are not whole numbers")
        if not (isinstance(shard.sha256, str) and re.fullmatch("[0-9a-f]{64}", shard.sha256)):
            raise ValueError(f"the sha256 of {shard.name} is not a sha256")
    for entry in datasets:
        if not isinstance(entry.name, str):
            raise ValueError(f"the name of a data set is {repr(entry.name)[:60]}, not a string")
        if not is_repeat_time(entry.repeat_time):
            raise ValueError(f"the repeat_time of the data set '{entry.name}' is {entry.repeat_time!r}")
    if summary["records"] and not datasets:
        raise ValueError("it names no data set")
    return summary


def check_places(records: np.ndarray, members: int, shards: Sequence[ShardEntry], datasets: int) -> None:
    """Raises ValueError unless the records, shard by shard, name every member, and nothing that is not there.

    The pairs of a question follow each other and name the same members; no other records do.
    """
    found, end, last = np.zeros(len(shards), dtype=np.int64), 0, None
    for start in range(0, len(records), ROWS_AT_ONCE):
        rows = records[start : start + ROWS_AT_ONCE]
        if rows["shard"].max() >= len(shards) or rows["dataset"].max() >= datasets:
            raise ValueError("a record names a shard or a data set that is not there")
        found += np.bincount(rows["shard"], minlength=len(shards))
        places = np.stack([rows[name].astype(np.int64) for name in ("first_member", "members", "shard", "dataset")])
        before = np.concatenate([places[:, :1] if last is None else last, places[:, :-1]], axis=1)
        new = places[0] != before[0]
        new[0] |= last is None
        if (places != before)[:, ~new].any():
            raise ValueError("the pairs of a question do not name the same members")
        firsts, counts = places[:2, new]
        ends = end + np.cumsum(counts)
        if (counts < 1).any() or (firsts != ends - counts).any():
            raise ValueError("its records do not name every member once")
        if np.diff(places[2], prepend=before[2, 0]).min() < 0:
            raise ValueError("its records are not in the order of the shards")
        end, last = int(ends[-1]) if len(ends) else end, places[:, -1:]
    if end != members or found.tolist() != [entry.records for entry in shards]:
        raise ValueError("its number of records differs from that of its shards, or not all members are named")
