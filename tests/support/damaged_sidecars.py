"""Damage of the small files beside shards, reference caches and checkpoints; see `support.damage`."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.data.shards.check import check_folder, index_folder
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reference_cache import ROW, cache_folder, finish_cache, open_cache, part_bytes
from mpo_lightning.errors import InputError
from mpo_lightning.runs.checkpoints.choice import find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO, manifest_of, problem_of

NO_OBJECTS = (
    "[" * 200_000,
    '{"a":' * 100_000,
    "null",
    "[]",
    "7",
    '"text"',
    "",
    "{",
    '{"bytes": NaN, "sha256": "x", "format": NaN}',
    '{"format": 2, "format": 2, "bytes": 1, "bytes": 1}',
    "\ud800",
)
WRONG: tuple[Any, ...] = ("3", [1], {}, None, True, -1, 1.5)
WRONG_NAMES: tuple[Any, ...] = ("a\0b.tar", "x" * 300 + ".tar", "", "..", "a/b.tar", "a\nb.tar", 7, ["x"], None)


def wrong_summary(summary: dict[str, Any], rng: random.Random) -> str:
    """Changes a field of an index.json to what it cannot be; says which."""
    field = rng.choice(
        [
            "records",
            "format",
            "shards",
            "datasets",
            "arrays",
            "shard name",
            "shard records",
            "shard bytes",
            "set name",
            "array name",
        ]
    )
    if field in summary:
        summary[field] = rng.choice([value for value in WRONG if value != {} or field != "arrays"])
    elif field == "set name":
        summary["datasets"][0]["name"] = rng.choice([["x"], {}, None, 7, True])
    elif field == "array name":
        summary["arrays"][rng.choice(["records", "members"])] = rng.choice(WRONG_NAMES)
    elif field == "shard name":
        summary["shards"][0]["name"] = rng.choice(WRONG_NAMES)
    else:
        summary["shards"][0][field.partition(" ")[2]] = rng.choice(WRONG)
    return field


def damaged_index(rng: random.Random, shards: Path, work: Path) -> tuple[str, str | None]:
    shutil.copytree(shards, work)
    path = work / "index" / "index.json"
    if rng.random() < 0.5:
        path.write_bytes(rng.choice(NO_OBJECTS).encode("utf-8", "surrogatepass"))
        try:
            index_folder(work, True, lambda *_: None)
            return "indexed anew in silence", None
        except InputError:
            kind = "no object"
    else:
        summary = json.loads(path.read_text())
        kind = wrong_summary(summary, rng)
        path.write_text(json.dumps(summary))
    try:
        check_folder(work, 1, lambda *_: None)
    except InputError as error:
        return kind, str(error)
    return kind, None


def damaged_cache(rng: random.Random, shards: Path, work: Path) -> tuple[str, str | None]:
    """One flipped bit in a reference cache's numbers, or a meta.json that is none."""
    shutil.copytree(shards, work)
    index = open_index(work)
    folder = cache_folder(work, {"made": "by hand"})
    folder.mkdir()
    rows = np.zeros(len(index), ROW)
    rows["record"], rows["chosen"], rows["rejected"], rows["digest"] = np.arange(len(index)), -7.5, -9.25, b"d" * 16
    (folder / "part-0-0.bin").write_bytes(part_bytes(rows))
    finish_cache(folder, {"made": "by hand"}, len(index))
    assert open_cache(index, {"made": "by hand"}).rows["chosen"][0] == -7.5
    name = rng.choice(["logps.npy", "logps.npy", "meta.json"])
    if name == "meta.json":
        (folder / name).write_bytes(rng.choice(NO_OBJECTS).encode("utf-8", "surrogatepass"))
    else:
        data = bytearray((folder / name).read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(data)
    try:
        open_cache(index, {"made": "by hand"})
    except InputError as error:
        return name, str(error)
    return name, None


def damaged_manifest(rng: random.Random, work: Path) -> tuple[str, str | None]:
    """Of a checkpoint: `auto` passes over it."""
    work.mkdir()
    path = work / "last.ckpt"
    ManifestCheckpointIO().save_checkpoint({"global_step": 3}, path)
    assert problem_of(path) is None
    manifest = json.loads(manifest_of(path).read_text())
    values = [{**manifest, "bytes": value} for value in WRONG] + [{**manifest, "sha256": value} for value in WRONG]
    text = rng.choice(NO_OBJECTS) if rng.random() < 0.5 else json.dumps(rng.choice(values))
    manifest_of(path).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        find_checkpoint("auto", work)
    except InputError:
        return "of a checkpoint", problem_of(path)
    return "of a checkpoint", None


def sidecars(rng: random.Random, shards: Path, work: Path) -> tuple[str, str | None]:
    """The kind of damage and what was said of it; None if nothing was."""
    what = rng.choice(["index", "cache", "manifest"])
    if what == "manifest":
        kind, said = damaged_manifest(rng, work)
    else:
        kind, said = damaged_index(rng, shards, work) if what == "index" else damaged_cache(rng, shards, work)
    return f"{what}, {kind}", said
