"""Scans a tar in one pass: its records, where their members are, and what is wrong with it.

Shards made elsewhere are indexed this way, and our own are read back this way after writing.
"""

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.data.records import MAX_PICTURE_BYTES, MAX_TEXT_BYTES
from mpo_lightning.data.shards.index import MEMBER, ScannedShard, record_dtype
from mpo_lightning.data.shards.index_summary import ShardEntry
from mpo_lightning.data.shards.sample import decode_sample, question_cost
from mpo_lightning.errors import BadRecord, InputError


def scan_shard(path: Path) -> ScannedShard:
    """Reads a tar once and finds its pairs; only the headers of images are decoded.

    Samples that break a rule are listed in `refused` with the reason and left out of the rows.

    Raises:
        InputError: the tar itself is broken: compressed, cut short, without its end mark, joined to another one, or
            with a repeated member.
    """
    rows: list[tuple[Any, ...]] = []
    members: list[tuple[int, int, int]] = []
    refused: list[tuple[str, str]] = []
    datasets: dict[str, int] = {}
    pair_keys: set[str] = set()
    for key, parts in _samples(path):
        try:
            for extension, (_, data) in parts.items():
                refuse_large(extension, len(data))
            question, names = decode_sample(key, {extension: data for extension, (_, data) in parts.items()})
            cost = question_cost(question, [parts[name][1] for name in names])
        except BadRecord as error:
            refused.append((key, str(error)))
            continue
        if repeated := {pair.key for pair in question.pairs} & pair_keys:
            refused.append((key, f"its pair '{min(repeated)}' has the key of an earlier one; keys must be unique"))
            continue
        pair_keys.update(pair.key for pair in question.pairs)
        dataset = datasets.setdefault(question.dataset, len(datasets))
        for pair in question.pairs:
            costs = cost.tiles, cost.prompt_tokens, *(cost.answer_tokens[n] for n in (pair.chosen, pair.rejected))
            place = 0, dataset, len(members), 1 + len(names)
            rows.append((pair.key.encode(), *place, *costs, pair.chosen, pair.rejected))
        members += [(parts[name][0], len(parts[name][1]), zlib.crc32(parts[name][1])) for name in ("json", *names)]
    with path.open("rb") as file:
        entry = ShardEntry(path.name, len(rows), path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    key_bytes = max((len(row[0]) for row in rows), default=1)
    records = np.array(rows, dtype=record_dtype(key_bytes))
    return ScannedShard(entry, tuple(datasets), records, np.array(members, dtype=MEMBER), refused=tuple(refused))


MOST_HEADER_BYTES = 2**16
"""Largest extended header, which tarfile reads whole; long names and attributes need far less."""


class _Header(tarfile.TarInfo):
    """A member's header of bounded size. Of the special kinds of headers, a shard needs only the long names."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            self._refuse_if(self.type == tarfile.GNUTYPE_SPARSE, "a file with holes")
            self._refuse_if(self.size > MOST_HEADER_BYTES, f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _apply_pax_info(self, headers: Any, encoding: str, errors: str) -> None:
        self._refuse_if(any(name.startswith("GNU.sparse") for name in headers), "a file with holes")
        super()._apply_pax_info(headers, encoding, errors)  # type: ignore[misc]

    def _refuse_if(self, wrong: bool, what: str) -> None:
        if wrong:
            raise tarfile.ReadError(f"it holds {what}")


MAC_NOTES = re.compile(r"(?:^|/)(?:\._[^/]*|\.DS_Store)$")
"""Matches what a Mac adds to a tar beside its files."""


def _samples(path: Path) -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """Yields key and {extension: (offset, bytes)} of each sample, in tar order, one sample in memory at a time."""
    keys: set[str] = set()
    parts: dict[str, tuple[int, bytes]] = {}
    key, end = None, 0
    try:
        with tarfile.open(path, "r:", tarinfo=_Header) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                end = member.offset_data + (member.size + 511) // 512 * 512
                if member.isdir() or MAC_NOTES.search(member.name):  # a folder that was packed as a whole
                    continue
                member_key, extension = _key_and_extension(path, member)
                if member_key != key:
                    if key is not None:
                        yield key, parts
                    if member_key in keys:
                        raise InputError(
                            f"{path}: the sample '{member_key}' is split or appears twice; make the shard again"
                        )
                    key, parts = member_key, {}
                    keys.add(key)
                if extension in parts:
                    raise InputError(f"{path}: the member '{member.name}' appears twice; make the shard again")
                data = tar.extractfile(member)
                # Read at most one byte beyond the limit, enough to refuse the member.
                body = data.read(min(member.size, limit_of(extension) + 1)) if data else b""
                if len(body) != min(member.size, limit_of(extension) + 1):
                    raise tarfile.ReadError("unexpected end of data")
                parts[extension] = (member.offset_data, body)
    except (tarfile.TarError, EOFError, zlib.error, RecursionError) as error:
        if (kind := compression_of(path)) is not None:
            raise InputError(f"{path}: is compressed ({kind}); unpack it to a plain tar first") from None
        raise InputError(f"{path}: the shard is damaged or cut short ({error}); make or copy it again") from None
    except OSError as error:
        raise InputError(f"{path}: the shard cannot be read ({error.strerror or error})") from None
    _check_end(path, end)
    if key is not None:
        yield key, parts


def _check_end(path: Path, end: int) -> None:
    """Checks that the end mark, two blocks of zeros, and nothing but zeros follow the last member.

    Raises:
        InputError: they do not, so records may be missing.
    """
    with path.open("rb") as file:
        file.seek(end)
        if file.read(1024) != bytes(1024):
            raise InputError(f"{path}: the shard is cut short (its end mark is missing); make or copy it again")
        while block := file.read(2**20):
            if block.strip(b"\0"):
                raise InputError(
                    f"{path}: more data follow its end mark, such as a second tar that was joined to it; unpack it "
                    "with tar --ignore-zeros, and make one tar of all"
                )


COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def compression_of(path: Path) -> str | None:
    """Returns how a file is compressed, by its first bytes; None if it is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for mark, kind in COMPRESSED.items() if head.startswith(mark)), None)


def limit_of(extension: str) -> int:
    """Largest number of bytes of a member with this extension."""
    return MAX_TEXT_BYTES if extension == "json" else MAX_PICTURE_BYTES


def refuse_large(extension: str, size: int) -> None:
    """Raises BadRecord for a member with more bytes than its kind may have."""
    if size > limit_of(extension):
        raise BadRecord(
            f"the member .{extension} has more than {limit_of(extension):,} bytes; make it smaller or leave it out"
        )


def _key_and_extension(path: Path, member: tarfile.TarInfo) -> tuple[str, str]:
    """Splits a member's name at its first dot into the key of its sample and its extension in lower case, as WebDataset
    does.
    """
    name = member.name
    if not member.isfile():
        raise InputError(f"{path}: the member '{name}' is a link or a special file; shards hold plain files only")
    folder, base = os.path.split(name)
    stem, _, extension = base.partition(".")
    key = os.path.join(folder, stem)
    if not stem:
        raise InputError(f"{path}: the member '{name}' has no name before its first dot; make the shard again")
    if key.startswith(("/", "..")) or "/../" in key:
        raise InputError(f"{path}: the member name '{name}' leads out of the archive; make the shard again")
    if any(0xD800 <= ord(char) <= 0xDFFF or char == "\0" for char in name):
        raise InputError(
            f"{path}: the member name {name.encode('utf-8', 'surrogateescape')!r} is not UTF-8 text; make the shard "
            "again"
        )
    return key, extension.lower()
