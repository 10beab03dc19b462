"""Reference log-probs computed once and kept beside the shards, so that training loads no reference model.

    SHARDS/reference-HASH/meta.json    the settings of the cache (HASH is their digest), and the sha256 of logps.npy
    SHARDS/reference-HASH/logps.npy    one row per record: log-probs of both answers, and a digest of the encoded pair
    SHARDS/reference-HASH/part-*.bin   finished rows of a run that has not ended, in the order of completion

A log-prob is valid only for the same token ids, tiles, weights and arithmetic. meta.json names weights, tokenizer,
template, limits and precision. Each record's digest covers its own ids and tiles, and training compares it pair by
pair.

Each row of an unfinished run has a fixed size and a checksum. So the rows of a killed run are read up to the last
complete one, for any number of writing processes. A row whose bytes have changed is computed again.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.data.encoding import EncodedPair, PairEncoder
from mpo_lightning.data.shards.index import ShardIndex
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.digests import file_digest
from mpo_lightning.files.strict_json import read_sidecar
from mpo_lightning.files.whole import whole_file, write_json

ROW = np.dtype([("record", "<u8"), ("chosen", "<f8"), ("rejected", "<f8"), ("digest", "S16")])
PART_ROW = np.dtype([("row", ROW), ("crc32", "<u4")])
MISSING = b""
"""Digest of a record that could not be encoded."""


CHECKSUM = "logps_sha256"
"""Field of meta.json for the sha256 of logps.npy; it is not a setting of the cache."""


class StaleCache(BadRecord):
    """Raised when the whole cache belongs to other pairs, so that skipping one record would not help."""


@dataclass(frozen=True)
class ReferenceCache:
    """An opened cache.

    Attributes:
        rows: memory-mapped rows of `ROW`, one per record.
    """

    rows: np.ndarray

    def logps(self, record: int, pair: EncodedPair) -> tuple[float, float]:
        """Reference log-probs of the chosen and the rejected answer, in nats.

        Raises:
            BadRecord: the record could not be used when the cache was made.
            StaleCache: the cache was made for other token ids or tiles.
        """
        row = self.rows[record]
        if bytes(row["digest"]) == MISSING:
            raise BadRecord(
                "the reference cache has no log-probs for it, since it could not be used when the cache was made; "
                "delete the cache and run 'mpo data reference' again"
            )
        if bytes(row["digest"]) != pair_digest(pair):
            raise StaleCache(
                "the reference cache holds log-probs of other tokens or pixels for it; run 'mpo data reference' again"
            )
        return float(row["chosen"]), float(row["rejected"])


def pair_digest(pair: EncodedPair) -> bytes:
    """Sixteen characters that identify exactly these token ids and pixels."""
    digest = hashlib.blake2b(digest_size=8)
    for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(ids.numpy().tobytes())
    digest.update(pair.tiles.permute(0, 2, 3, 1).contiguous().numpy().data)
    return digest.hexdigest().encode()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of the whole definition of a fast tokenizer."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def cache_meta(index: ShardIndex, encoder: PairEncoder, model_fingerprint: str, precision: str) -> dict[str, Any]:
    """The settings that a cache is made with.

    `model_fingerprint` is `weights_fingerprint` of the reference's folder.
    """
    settings = {
        name: getattr(encoder, name) for name in ("tile_size", "tokens_per_tile", "max_tiles", "max_length", "overlong")
    }
    for name, default in (("pixels", "seen"), ("thinking", "trained")):
        if getattr(encoder, name) != default:
            settings[name] = getattr(encoder, name)
    return {
        "format": 3,
        "shards": index.fingerprint,
        "model": model_fingerprint,
        "tokenizer": tokenizer_fingerprint(encoder.tokenizer),
        "precision": precision,
        **encoder.template.identity,
        **settings,
    }


def cache_folder(shards: Path, meta: dict[str, Any]) -> Path:
    """The folder of the cache with these settings, beside the shards."""
    return shards / f"reference-{hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]}"


def open_cache(index: ShardIndex, meta: dict[str, Any]) -> ReferenceCache:
    """Opens the cache that was made with exactly these settings.

    Raises:
        InputError: there is none, it is unfinished or damaged, or only caches of other settings are there; the message
            says which differ.
    """
    folder = cache_folder(index.folder, meta)
    if not (folder / "meta.json").is_file():
        raise InputError(f"{index.folder}: {_what_is_there(index.folder, meta)}; make it with 'mpo data reference'")
    try:
        expected = read_sidecar(folder / "meta.json").get(CHECKSUM)
        if expected != file_digest(folder / "logps.npy"):
            raise ValueError("the bytes of logps.npy differ from the sha256 in meta.json")
        rows = np.load(folder / "logps.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: the reference cache cannot be read ({error}); delete it and run 'mpo data reference' again"
        ) from None
    if rows.dtype != ROW or len(rows) != len(index):
        raise InputError(
            f"{folder}: the reference cache does not fit the index; delete it and run 'mpo data reference' again"
        )
    return ReferenceCache(rows)


OPTIONAL = {
    "system_message": "the template's own",
    "trained_newline": "False",
    "pixels": "seen",
    "thinking": "trained",
}
"""Settings that a cache names only where they have another value than this."""


def _told(meta: dict[str, Any], name: str) -> str:
    return str(meta[name] if meta[name] != "" else "none") if name in meta else OPTIONAL.get(name, "none")


def _what_is_there(shards: Path, meta: dict[str, Any]) -> str:
    if any(cache_folder(shards, meta).glob("part-*.bin")):
        return "the reference cache is unfinished"
    differences: list[list[str]] = []
    for path in sorted(shards.glob("reference-*/meta.json")):
        try:
            other = read_sidecar(path)
        except (OSError, ValueError):
            continue
        differences.append(
            [
                f"{name} {_told(other, name):.24} instead of {_told(meta, name):.24}"
                for name in [*meta, *(other.keys() & OPTIONAL.keys() - meta.keys())]
                if other.get(name) != meta.get(name)
            ]
        )
    if not differences:
        return "there is no reference cache"
    nearest: list[str] = min(differences, key=len)
    return f"the nearest reference cache there was made with {', '.join(nearest)}"


def part_bytes(rows: np.ndarray) -> bytes:
    """The bytes of rows of `ROW` in a part, each followed by a checksum."""
    part = np.empty(len(rows), PART_ROW)
    part["row"], part["crc32"] = rows, _checksums(rows)
    return part.tobytes()


def finished_rows(folder: Path) -> np.ndarray:
    """The rows of `ROW` that earlier runs finished, one per record in order, without those whose checksum does not
    match.
    """
    parts = [
        np.frombuffer(data[: len(data) // PART_ROW.itemsize * PART_ROW.itemsize], PART_ROW)
        for data in map(Path.read_bytes, sorted(folder.glob("part-*.bin")))
    ]
    found = np.concatenate(parts) if parts else np.empty(0, PART_ROW)
    rows = found["row"][found["crc32"] == _checksums(found["row"])]
    return rows[np.unique(rows["record"], return_index=True)[1]]


def _checksums(rows: np.ndarray) -> np.ndarray:
    data, size = rows.tobytes(), ROW.itemsize
    return np.array([zlib.crc32(data[place : place + size]) for place in range(0, len(data), size)], "<u4")


def finish_cache(folder: Path, meta: dict[str, Any], records: int) -> None:
    """Puts the finished rows in place; meta.json is written last.

    Raises:
        InputError: some records are not finished yet.
    """
    rows = finished_rows(folder)
    if len(rows) != records:
        raise InputError(
            f"{folder}: {records - len(rows):,} of {records:,} records are not finished; run the same command again"
        )
    with whole_file(folder / "logps.npy", "wb") as file:
        np.save(file, rows)
    write_json(folder / "meta.json", meta | {CHECKSUM: file_digest(folder / "logps.npy")})
    for part in folder.glob("part-*.bin"):
        part.unlink()
