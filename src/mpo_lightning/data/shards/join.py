"""Joins several folders of shards, each with a weight."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.data.annotations.mmpr import MOST_REPEATS, is_repeat_time
from mpo_lightning.data.shards.index import ShardIndex, open_index, record_dtype
from mpo_lightning.data.shards.remote import is_remote, open_remote
from mpo_lightning.errors import InputError


def open_shards(folders: str | Mapping[str, float], cache_bytes: int = 64 * 2**30) -> ShardIndex:
    """Opens the index of a folder, here or at a URL, or the joined index of several.

    Args:
        folders: one folder, or several with weights that multiply the repeat_time of each of their data sets.
        cache_bytes: most bytes of each remote folder's tars that are kept on this machine.

    Raises:
        InputError: no shards there, a weight that is not a positive number, no folder at all, or one twice.
    """
    if isinstance(folders, str) and folders.lstrip().startswith("{"):
        raise InputError(
            f"data.train: {folders} is neither a folder nor folders with numbers for weights such as {{FOLDER: 1, "
            f"FOLDER: 0.5}}"
        )
    if isinstance(folders, str) and not folders.strip():
        raise InputError("data.train is an empty name; give a folder made by 'mpo data shard'")
    if isinstance(folders, str):
        return open_remote(folders, cache_bytes) if is_remote(folders) else open_index(Path(folders))
    if not folders:
        raise InputError("data.train names no folder; give one, or several with their weights")
    places: dict[str, str] = {}
    for folder, weight in folders.items():
        place = folder.rstrip("/") if is_remote(folder) else str(Path(folder).resolve())
        if place in places:
            raise InputError(
                f"data.train: {places[place]} and {folder} are the same folder; give it once, with the summed weight"
            )
        places[place] = folder
        if not is_repeat_time(weight):
            raise InputError(
                f"data.train: the weight of {folder} is {weight!r}; give a number above 0 and up to {MOST_REPEATS}"
            )
    return join([open_shards(folder, cache_bytes) for folder in folders], list(folders.values()))


def join(parts: Sequence[ShardIndex], weights: Sequence[float]) -> ShardIndex:
    """Joins several indexes; their rows are copied into memory (about 100 bytes per record)."""
    key_bytes = max(part.records.dtype["key"].itemsize for part in parts)
    records = np.zeros(sum(map(len, parts)), record_dtype(key_bytes))
    start = shards = datasets = members = 0
    for part in parts:
        rows = records[start : start + len(part)]
        rows[:] = part.records
        for column, offset in (("shard", shards), ("dataset", datasets), ("first_member", members)):
            rows[column] += rows.dtype[column].type(offset)
        start, shards = start + len(part), shards + len(part.shards)
        datasets, members = datasets + len(part.datasets), members + len(part.members)
    entries = tuple(
        replace(entry, repeat_time=entry.repeat_time * weight)
        for part, weight in zip(parts, weights, strict=True)
        for entry in part.datasets
    )
    source = JoinedSource(tuple(parts), tuple(weights))
    every_shard = tuple(shard for part in parts for shard in part.shards)
    return ShardIndex(
        parts[0].folder,
        every_shard,
        datasets=entries,
        records=records,
        members=np.concatenate([part.members for part in parts]),
        source=source,
    )


class JoinedSource:
    """Finds the tars of joined indexes.

    Args:
        parts: the indexes.
        weights: weight of each index.
    """

    def __init__(self, parts: tuple[ShardIndex, ...], weights: tuple[float, ...]) -> None:
        self.parts, self.weights = parts, weights
        self._first = np.cumsum([0, *(len(part.shards) for part in parts)])

    def _find(self, shard: int) -> tuple[ShardIndex, int]:
        number = int(np.searchsorted(self._first, shard, side="right")) - 1
        return self.parts[number], shard - int(self._first[number])

    def open(self, shard: int) -> io.FileIO:
        part, own = self._find(shard)
        return part.open(own)

    def where(self, shard: int) -> str:
        part, own = self._find(shard)
        return part.place(own)

    def ahead(self, shards: Sequence[int]) -> None:
        found = [self._find(shard) for shard in shards]
        for part in self.parts:
            if part.source is not None:
                part.source.ahead([own for other, own in found if other is part])

    def forget(self, shard: int) -> bool:
        part, own = self._find(shard)
        return part.source is not None and part.source.forget(own)

    def reopen(self) -> tuple[Callable[..., ShardIndex], tuple[Any, ...]]:
        return join, (self.parts, self.weights)
