"""The index of a folder of shards: where the members of each record are, their sizes and their costs.

The folder `index/` lies beside the tars:

    index.json          format, data sets with repeat_time, shards with records, bytes and sha256, names of the arrays
    records-HASH.npy    one row per pair: shard, first member, key, token and tile counts, its two answers
    members-HASH.npy    one row per tar member: offset, size and crc32 of its bytes

A record is a pair. The pairs of a question follow each other and name the same members: its JSON and its images.

The two arrays are memory-mapped, so a set of millions of records opens at once, without parsing. They are named by
their contents, and index.json replaces its predecessor in one rename. So a killed writer leaves the old index or the
new one. Counts come from the tokenizer in this package and a limit of 12 tiles; they serve to balance work, not to cut
sequences.

Own format, because wids, the index of WebDataset, has no sizes or costs of records and parses JSON at each start.
"""

import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mpo_lightning.data.records import MAX_PICTURE_BYTES
from mpo_lightning.data.shards.index_summary import FORMAT, DatasetEntry, ShardEntry, check_places, read_summary
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.named_arrays import open_array, save_array
from mpo_lightning.files.whole import write_json

COSTS = ("tiles", "prompt_tokens", "chosen_tokens", "rejected_tokens")
MEMBER = np.dtype([("offset", "<u8"), ("size", "<u8"), ("crc32", "<u4")])
ANSWERS = ("chosen", "rejected")
"""Columns with the numbers of a pair's answers in its question."""


def record_dtype(key_bytes: int, answers: bool = True) -> np.dtype:
    """The columns of records.npy; the first member is the JSON, and the images follow in order.

    Args:
        key_bytes: bytes of the longest key.
        answers: whether rows name their answers, by number in their question; those of format 2 do not.
    """
    places = [("shard", "<u4"), ("dataset", "<u4"), ("first_member", "<u8"), ("members", "<u4")]
    counts = [(name, "<u4") for name in (*COSTS, *(ANSWERS if answers else ()))]
    return np.dtype([("key", f"S{max(1, key_bytes)}"), *places, *counts])


def with_answers(records: np.ndarray) -> np.ndarray:
    """Rows of format 2 in the columns of today; their questions have one pair, of the answers 0 and 1."""
    rows = np.zeros(len(records), record_dtype(records.dtype["key"].itemsize))
    for name in records.dtype.names or ():
        rows[name] = records[name]
    rows["rejected"] = 1
    return rows


class ShardSource(Protocol):
    """Provides the tars of an index that are not simply in its folder."""

    def open(self, shard: int) -> io.FileIO:
        """Opens a tar; raises BadRecord or OSError if it is unavailable."""

    def where(self, shard: int) -> str:
        """The place of a tar, for messages."""

    def ahead(self, shards: Sequence[int]) -> None:
        """Announces shards that are needed soon."""

    def forget(self, shard: int) -> bool:
        """Drops a local tar that is damaged or gone; returns whether it can be fetched again."""

    def reopen(self) -> tuple[Callable[..., "ShardIndex"], tuple[Any, ...]]:
        """A function and its arguments that open the index again in another process."""


@dataclass(frozen=True)
class ShardIndex:
    """An opened index.

    Attributes:
        folder: folder of the tars.
        shards: the tar files, in order.
        datasets: the data sets, in order of their numbers.
        records: memory-mapped rows, see `record_dtype`.
        members: memory-mapped rows of `MEMBER`.
        source: source of tars that are not in the folder: remote ones, or those of several folders.
    """

    folder: Path
    shards: tuple[ShardEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    records: np.ndarray
    members: np.ndarray
    source: ShardSource | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __reduce__(self) -> tuple[Any, ...]:
        # A spawned process would copy the whole memory map, so it opens its own instead.
        return self.source.reopen() if self.source is not None else (open_index, (self.folder,))

    def open(self, shard: int) -> io.FileIO:
        """Opens a tar; raises BadRecord or OSError if it is unavailable."""
        return self.source.open(shard) if self.source is not None else io.FileIO(self.folder / self.shards[shard].name)

    @cached_property
    def first_records(self) -> np.ndarray:
        """int64 [shards + 1]: index of the first record of each shard; the last entry is the number of records."""
        return np.cumsum([0, *(shard.records for shard in self.shards)])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the records, their order and their repeats, wherever the folder is."""
        content = [[shard.records, shard.sha256] for shard in self.shards], [asdict(entry) for entry in self.datasets]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def question(self, record: int) -> int:
        """A number that the pairs of one question have in common: the place of the question's first member."""
        return int(self.records[record]["first_member"])

    def pair_number(self, record: int) -> int:
        """The number of a pair in its question."""
        number = 0
        while number < record and self.question(record - number - 1) == self.question(record):
            number += 1
        return number

    def key(self, record: int) -> str:
        return bytes(self.records[record]["key"]).decode("utf-8", "replace")

    def where(self, record: int) -> str:
        """The key and the shard of a record, for messages."""
        return f"record '{self.key(record)}' of {self.place(int(self.records[record]['shard']))}"

    def place(self, shard: int) -> str:
        """The place of a tar, for messages."""
        return self.source.where(shard) if self.source is not None else str(self.folder / self.shards[shard].name)


@dataclass(frozen=True)
class ScannedShard:
    """The result of one pass over a tar. Its rows count shards, data sets and members from 0, as if it were alone.

    Attributes:
        entry: the tar.
        datasets: names of the data sets in it, by their numbers in `records`.
        records: rows of `record_dtype`.
        members: rows of `MEMBER`.
        refused: key and reason of each record that breaks a rule.
    """

    entry: ShardEntry
    datasets: tuple[str, ...]
    records: np.ndarray
    members: np.ndarray
    refused: tuple[tuple[str, str], ...]


def write_index(folder: Path, scanned: list[ScannedShard], datasets: list[DatasetEntry]) -> list[DatasetEntry]:
    """Writes `index/` for a folder and returns its data sets. A kill at any moment leaves the old index or the new one.

    Args:
        folder: folder of the tars.
        scanned: one scan per shard, in order.
        datasets: known data sets; those that only the records name are added with repeat_time 1.
    """
    numbers = {entry.name: number for number, entry in enumerate(datasets)}
    for name in (name for scan in scanned for name in scan.datasets):
        if name not in numbers:
            numbers[name] = len(numbers)
            datasets = [*datasets, DatasetEntry(name)]
    records = np.zeros(
        sum(len(scan.records) for scan in scanned), record_dtype(max(scan.records["key"].itemsize for scan in scanned))
    )
    start = first_member = 0
    for shard, scan in enumerate(scanned):
        rows = records[start : start + len(scan.records)]
        rows[:] = scan.records
        rows["shard"] = shard
        rows["dataset"] = np.array([numbers[name] for name in scan.datasets], dtype=np.uint32)[scan.records["dataset"]]
        rows["first_member"] += first_member
        start, first_member = start + len(rows), first_member + len(scan.members)
    members = np.concatenate([scan.members for scan in scanned])
    target = folder / "index"
    target.mkdir(exist_ok=True)
    arrays = {name: save_array(target, name, rows) for name, rows in (("records", records), ("members", members))}
    summary = {
        "format": FORMAT,
        "records": len(records),
        "arrays": arrays,
        "datasets": [asdict(entry) for entry in datasets],
        "shards": [asdict(scan.entry) for scan in scanned],
    }
    write_json(target / "index.json", summary)
    for old in target.glob("*.npy"):
        if old.name not in arrays.values():
            old.unlink()
    return datasets


def open_index(folder: Path, tars: bool = True, url: str | None = None) -> ShardIndex:
    """Opens the index of a folder and, unless `tars` is False, checks that its tars are there in full size.

    Args:
        folder: folder of the tars.
        tars: whether the tars are in the folder.
        url: URL that the index was fetched from, for messages.

    Raises:
        InputError: no such folder, no index, an index of another format, or a shard that is missing or has another
            size.
    """
    path = folder / "index" / "index.json"
    refuse_url(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of shards")
    if not path.is_file():
        if (folder / "train" / "index" / "index.json").is_file():
            raise InputError(f"{folder}: this folder holds splits; give {folder / 'train'} or {folder / 'validation'}")
        lying = sorted(folder.glob("*.tar"))
        if lying:
            raise InputError(f"{folder}: {len(lying)} tar files but no index; run 'mpo data index {folder}' once")
        raise InputError(f"{folder}: no shards here; make them with 'mpo data shard --meta META --output SHARDS'")
    try:
        summary = read_summary(path)
        shards = tuple(ShardEntry(**entry) for entry in summary["shards"])
        datasets = tuple(DatasetEntry(**entry) for entry in summary["datasets"])
        records, members = (
            open_array(path.with_name(summary["arrays"][name]), name) for name in ("records", "members")
        )
        key_bytes = records.dtype["key"].itemsize if "key" in (records.dtype.names or ()) else 0
        counts = {len(records), summary["records"], sum(shard.records for shard in shards)}
        if summary["format"] < FORMAT and records.dtype == record_dtype(key_bytes, answers=False):
            records = with_answers(records)
        if records.dtype != record_dtype(key_bytes) or members.dtype != MEMBER or len(counts) > 1:
            raise ValueError("its parts do not fit together")
        check_places(records, len(members), shards, len(datasets))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if url is not None:
            raise InputError(
                f"{url}: the index cannot be used ({error}); make it again where the shards come from"
            ) from None
        raise InputError(
            f"{path.parent}: the index cannot be read ({error}); run 'mpo data index {folder}' again"
        ) from None
    for shard in shards if tars else ():
        tar = folder / shard.name
        size = tar.stat().st_size if tar.is_file() else None
        if size is None:
            raise InputError(
                f"{tar}: the shard named by the index is missing; copy it again or run 'mpo data index {folder}'"
            )
        if size != shard.bytes:
            raise InputError(f"{tar}: the shard has {size:,} bytes where the index says {shard.bytes:,}; copy it again")
    return ShardIndex(folder, shards, datasets, records, members=members)


def refuse_url(folder: Path) -> None:
    """Raises InputError for a URL that was passed as a path, which has already lost one of its slashes."""
    if re.match(r"[a-z0-9+.-]{2,}:/", str(folder)):
        raise InputError(
            f"{str(folder).replace(':/', '://', 1)}: this command reads shards on this machine, not at a URL; copy "
            "the folder here first ('mpo fit' "
            "takes URLs)"
        )


def read_member(file: io.FileIO, offset: int, size: int, crc32: int) -> bytes:
    """Reads the bytes of one member and compares them with its checksum.

    Raises:
        BadRecord: short read or another checksum: the shard changed or was damaged after it was indexed.
    """
    if size > MAX_PICTURE_BYTES:
        raise BadRecord(
            f"one of its members has {size:,} bytes, more than {MAX_PICTURE_BYTES:,}; make it smaller or leave it out"
        )
    try:
        data = os.pread(file.fileno(), size, offset)
    except (OSError, OverflowError) as error:
        raise BadRecord(f"its shard cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(data) != size or zlib.crc32(data) != crc32:
        raise BadRecord("its bytes differ from the checksum in the index; the shard is damaged, copy it again")
    return data
