"""Reads records from shards by number: one seek per member, every member compared with its checksum."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpo_lightning.data.records import PreferenceRecord, QuestionRecord
from mpo_lightning.data.shards.index import ShardIndex, read_member
from mpo_lightning.data.shards.remote import LostShard
from mpo_lightning.data.shards.sample import parse_question
from mpo_lightning.errors import BadRecord


class ShardReader:
    """Random access to the records of an index. It may be copied to worker processes; each opens its own files.

    Args:
        index: opened index.
        max_open: most tars held open at once.
    """

    def __init__(self, index: ShardIndex, max_open: int = 32) -> None:
        self.index = index
        self.max_open = max_open
        self._files: dict[int, io.FileIO] = {}
        self._lost: dict[int, LostShard] = {}
        self._last: tuple[int, QuestionRecord] | None = None

    def read(self, record: int) -> PreferenceRecord:
        """Reads a pair with the bytes of its images; pairs of one question that are read in a row read it once.

        Raises:
            BadRecord: its bytes differ from the checksum, or it breaks a rule of `records`.
            LostShard: its shard cannot be fetched; every later record of that shard raises at once.
        """
        number, key = self.index.question(record), self.index.key(record)
        if self._last is None or self._last[0] != number:
            self._last = None
            self._last = number, self._question(self.index.records[record])
        question = self._last[1]
        place = self.index.pair_number(record)
        if place >= len(question.pairs):
            raise BadRecord("its sample has fewer pairs than the index says; run 'mpo data index' again")
        return replace(question.record(question.pairs[place]), key=key)

    def _question(self, row: np.void) -> QuestionRecord:
        try:
            body, *images = self._members(row)
        except LostShard:
            raise
        except BadRecord:
            # A remote tar's copy may be damaged.
            source = self.index.source
            if source is None or not source.forget(int(row["shard"])):
                raise
            self._files.pop(int(row["shard"]), None)
            body, *images = self._members(row)
        return parse_question(bytes(row["key"]).decode("utf-8", "replace"), body, tuple(images))

    def _members(self, row: np.void) -> list[bytes]:
        file = self._open(int(row["shard"]))
        first = int(row["first_member"])
        members = self.index.members[first : first + int(row["members"])]
        return [read_member(file, int(m["offset"]), int(m["size"]), int(m["crc32"])) for m in members]

    def ahead(self, shards: Sequence[int]) -> None:
        """Announces shards that are needed soon; remote ones are fetched in the background."""
        if self.index.source is not None and shards:
            self.index.source.ahead(shards)

    def _open(self, shard: int) -> io.FileIO:
        if shard in self._lost:
            raise self._lost[shard]
        if shard not in self._files:
            if len(self._files) >= self.max_open:
                self._files.pop(next(iter(self._files))).close()
            try:
                self._files[shard] = self.index.open(shard)
            except LostShard as error:
                self._lost[shard] = error
                raise
            except OSError as error:
                raise BadRecord(f"its shard {self.index.place(shard)} cannot be opened ({error.strerror})") from None
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}, "_last": None}
