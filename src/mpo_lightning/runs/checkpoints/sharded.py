"""A checkpoint folder that all ranks write together, each its own shards, with torch's distributed checkpoint.

Shards stream to disk and are hashed on the way. A run on another number of devices can read the same folder. No code in
it can run: torch pickles the table of shards, and the unpickler here accepts only the table's own classes.
"""

import io
import json
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, FileSystemWriter, load, save
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from mpo_lightning.files.whole import sync_folder, write_text
from mpo_lightning.runs.agreement import gather, stop_together
from mpo_lightning.runs.checkpoints.io import MANIFEST, HashingFile, cannot_be_written, manifest_fields
from mpo_lightning.runs.torch_internals import TABLE_CLASSES, TABLE_FUNCTIONS, TABLE_MODULES

REST = "meta.pt"
"""File for the state other than models and optimizers; the name is Lightning's."""


def save_sharded(tensors: dict[str, Any], rest: dict[str, Any], target: Path, complete: bool = True) -> None:
    """Writes a checkpoint folder; every rank calls this.

    Args:
        tensors: sharded state of the model and the optimizers.
        rest: other state of the checkpoint, the same on every rank.
        target: checkpoint folder; replaced if it exists.
        complete: whether the optimizers' state is included.

    Raises:
        InputError: a rank's disk is full or cannot be written. Other checkpoints stay, and nothing is left of this one.
    """
    partial = target.with_name(f".{target.name}.partial")
    _on_rank_zero(target, lambda: _empty(partial))
    writer = _Writer(partial)
    problem = None
    try:
        save(tensors, storage_writer=writer)
    except CheckpointException as error:
        problem = cannot_be_written(target, _first_cause(error))
        shutil.rmtree(partial, ignore_errors=True)
    stop_together(problem)
    entries = {name: entry for part in gather(writer.fs.entries) for name, entry in part.items()}
    _on_rank_zero(target, lambda: _finish(partial, target, rest, entries, complete=complete))


def load_sharded(tensors: dict[str, Any], folder: Path) -> None:
    """Fills sharded or full tensors in place; every rank calls this, or a single process.

    Raises:
        InputError: the folder lacks a tensor, has it in another shape, or cannot be read.
    """
    problem = None
    try:
        load(tensors, storage_reader=_Reader(folder), planner=_Planner())
    except CheckpointException as error:
        problem = f"{folder}: the checkpoint does not fit ({_first_cause(error)}); was it made with another model?"
    stop_together(problem)


def read_rest(folder: Path) -> dict[str, Any]:
    """Returns the state other than models and optimizers."""
    rest: dict[str, Any] = torch.load(folder / REST, map_location="cpu", weights_only=True)
    return rest


def _on_rank_zero(target: Path, do: Any) -> None:
    problem = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            do()
        except (OSError, RuntimeError) as error:
            problem = cannot_be_written(target, error)
            shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)
    stop_together(problem)


def _empty(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def _finish(partial: Path, target: Path, rest: dict[str, Any], entries: dict[str, Any], complete: bool) -> None:
    with HashingFile(partial / REST) as file:
        torch.save(rest, file)  # type: ignore[arg-type]
    write_text(
        partial / MANIFEST,
        json.dumps({"files": entries | {REST: file.entry}} | manifest_fields(rest, complete), indent=1),
    )
    sync_folder(partial)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _first_cause(error: CheckpointException) -> Exception:
    """Returns the error of the first rank that failed."""
    _, (cause, _) = min(error.failures.items(), key=lambda item: item[0])
    return cause if isinstance(cause, Exception) else RuntimeError(str(cause))


class _HashedFiles(FileSystem):
    """torch's file system, which also keeps the hash of each file written."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        assert mode == "wb", "the writer only writes"
        with HashingFile(Path(path)) as file:
            yield file
        # torch writes its table under another name first.
        self.entries[Path(path).name.removesuffix(".tmp")] = file.entry


class _Writer(FileSystemWriter):
    """Hashes its files and omits this machine's paths from the metadata."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, sync_files=False)  # `HashingFile` syncs its file; torch would sync all disks
        self.fs: _HashedFiles = _HashedFiles()

    def storage_meta(self) -> None:
        return None


class _Reader(FileSystemReader):
    """Reads the table of shards without running code in it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / ".metadata").open("rb") as file:
            metadata: Metadata = _TableUnpickler(file).load()
        for place in metadata.storage_data.values():
            if Path(place.relative_path).name != place.relative_path:
                raise pickle.UnpicklingError(f"the table of shards names {place.relative_path}, which is elsewhere")
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


class _TableUnpickler(pickle.Unpickler):
    """Accepts only the classes of torch's table of shards, none of which runs code."""

    def find_class(self, module: str, name: str) -> Any:
        a_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        a_class = module in TABLE_MODULES and name in TABLE_CLASSES
        if not a_dtype and not a_class and (module, name) not in TABLE_FUNCTIONS:
            raise pickle.UnpicklingError(f"the table of shards names {module}.{name}, which is not allowed")
        return super().find_class(module, name)


class _Planner(DefaultLoadPlanner):
    """torch's planner, except that entries other than tensors cannot run code."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)  # raises for anything that could run code
        value.seek(0)
        super().load_bytes(read_item, value)
