"""Reads whole shard folders, to check them or to index ones that were made elsewhere."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path

from mpo_lightning.data.annotations.mmpr import is_repeat_time
from mpo_lightning.data.pictures import open_picture, seen_otherwise
from mpo_lightning.data.shards.index import open_index, refuse_url, write_index
from mpo_lightning.data.shards.index_summary import DatasetEntry
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.scan import scan_shard
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.process_pool import process_map
from mpo_lightning.files.strict_json import read_sidecar
from mpo_lightning.files.whole import write_text

Progress = Callable[..., None]

OTHER_TAR = re.compile(r"^[^.].*\.(?:tar|tar\.(?:gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
"""Matches names of tars, compressed ones too; not those of files that lie beside a tar."""


@dataclass(frozen=True)
class CheckReport:
    """What was read.

    Attributes:
        records: number of records.
        shards: number of shards.
        pictures: number of images.
        problems: each problem in a sentence.
        otherwise: number of images that a person sees otherwise than they are stored, by the way.
    """

    records: int
    shards: int
    pictures: int
    problems: list[str]
    otherwise: dict[str, int]


def split_folders(folder: Path) -> list[Path]:
    """The shard folders to read: the splits of an output of `mpo data shard`, or the folder itself."""
    splits = [folder / split for split in ("train", "validation") if (folder / split / "index").is_dir()]
    return splits or [folder]


def check_folder(folder: Path, workers: int, progress: Progress) -> CheckReport:
    """Checks every byte of a folder: tars by their sha256, members by their crc32, records by the rules.

    Raises:
        InputError: the index itself cannot be used.
    """
    index = open_index(folder)
    jobs = [(folder, shard) for shard in range(len(index.shards))]
    problems: list[str] = []
    pictures = 0
    otherwise: Counter[str] = Counter()
    with process_map(_check_shard, jobs, workers) as results:
        for found, count, ways in results:
            problems += found
            pictures += count
            otherwise += ways
            progress(1, len(jobs))
    return CheckReport(len(index), len(index.shards), pictures, problems=problems, otherwise=dict(otherwise))


_opened = lru_cache(maxsize=1)(open_index)  # once per process, not per shard


def _check_shard(job: tuple[Path, int]) -> tuple[list[str], int, Counter[str]]:
    folder, shard = job
    index = _opened(folder)
    entry = index.shards[shard]
    path = index.folder / entry.name
    problems: list[str] = []
    with path.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != entry.sha256:
            problems.append(
                f"{path}: its sha256 differs from the index; the file changed after it was indexed, copy it again"
            )
    reader = ShardReader(index)
    pictures = 0
    otherwise: Counter[str] = Counter()
    last = None
    for record in range(int(index.first_records[shard]), int(index.first_records[shard + 1])):
        try:
            images = reader.read(record).images
            if index.question(record) == last:
                continue
            last = index.question(record)
            for number, data in enumerate(images):
                pictures += 1
                try:
                    open_picture(data)
                    otherwise.update(seen_otherwise(data))
                except BadRecord as error:
                    raise BadRecord(f"image {number}: {error}") from None
        except BadRecord as error:
            problems.append(f"{index.where(record)}: {error}")
    return problems, pictures, otherwise


@dataclass(frozen=True)
class IndexReport:
    """What an index contains.

    Attributes:
        records: number of records.
        refused: number of skipped records.
        datasets: data sets with the repeat_time that each keeps.
        left_out: names of compressed tars, and of folders with tars, which no index of this folder covers.
    """

    records: int
    refused: int
    datasets: list[DatasetEntry]
    left_out: list[str]


def index_folder(folder: Path, strict: bool, progress: Progress) -> IndexReport:
    """Scans every tar of a folder and writes the index.

    Raises:
        InputError: no tars, a broken tar, a key that two shards share, (strict) a record that breaks a rule, or an
            earlier index that cannot be read, since the repeat_time of its data sets would be lost.
    """
    refuse_url(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of .tar files")
    tars = sorted(folder.glob("*.tar"))
    left_out = _other_tars(folder)
    if not tars:
        others = f"; there are {', '.join(left_out)[:200]}" if left_out else ""
        raise InputError(f"{folder}: no .tar files to index{others}")
    known = _known_datasets(folder)
    scans, refused = [], []
    keys: set[bytes] = set()
    for path in tars:
        scan = scan_shard(path)
        if strict and scan.refused:
            key, reason = scan.refused[0]
            raise InputError(f"record '{key}' of {path}: {reason} (or skip such records with --on_bad quarantine)")
        repeated = keys.intersection(scan.records["key"].tolist())
        if repeated:
            key = repeated.pop().decode()
            raise InputError(f"{path}: the key '{key}' is in an earlier shard as well; keys must be unique in a folder")
        keys.update(scan.records["key"].tolist())
        refused += [{"where": f"record '{key}' of {path}", "reason": reason} for key, reason in scan.refused]
        scans.append(scan)
        progress(1, len(tars))
    reasons = folder / "index" / "quarantine.jsonl"
    reasons.unlink(missing_ok=True)
    if refused:
        lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in refused)
        write_text(reasons, "".join(lines))
    if not keys:
        where = f"; all {len(refused):,} were skipped, see {reasons}" if refused else ""
        raise InputError(f"{folder}: the shards hold no usable record{where}")
    datasets = write_index(folder, scans, known)
    return IndexReport(len(keys), len(refused), datasets, left_out)


def _other_tars(folder: Path) -> list[str]:
    """What may hold records of the set as well, but is no tar of the folder."""
    compressed = [
        path.name
        for path in folder.iterdir()
        if path.is_file() and OTHER_TAR.search(path.name) and path.suffix != ".tar"
    ]
    shown = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    folders = [f"{path.name}/" for path in shown if any(path.rglob("*.tar"))]
    return sorted(compressed) + sorted(folders)


def _known_datasets(folder: Path) -> list[DatasetEntry]:
    """The data sets of an earlier index, whose repeat_time is kept; empty if there was no index."""
    path = folder / "index" / "index.json"
    if not any(path.parent.glob("*.npy")) and not path.exists():
        return []
    try:
        known = [DatasetEntry(**entry) for entry in read_sidecar(path)["datasets"]]
        if not all(isinstance(entry.name, str) and is_repeat_time(entry.repeat_time) for entry in known):
            raise ValueError("a data set has a wrong name or repeat_time")
        return known
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: the earlier index cannot be read ({error}), so the repeat_time of its data sets would be lost; "
            "put index.json "
            f"back, or delete {path.parent} to index again with a repeat_time of 1"
        ) from None
