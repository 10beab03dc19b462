"""Checkpoints that are either whole or not there: hashed while they are written, synced, renamed into place.

    NAME.ckpt         the state, streamed to disk (Lightning's own way holds a second copy of it in memory)
    NAME.ckpt.json    its manifest: bytes, sha256 and step; written before NAME.ckpt gets its name

or, of a sharded run (`sharded_checkpoint`), a folder:

    NAME.ckpt/        a file of each rank's pieces, torch's table of them, and meta.pt with the rest of the state
        manifest.json bytes and sha256 of each, and the step; written last, before NAME.ckpt gets its name

A kill at any moment leaves a checkpoint whole, or under another name, from which `checkpoint_recovery` brings it back.
Damage that comes later shows by the manifest.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from mpo_lightning.files.whole import partial_of, sync_folder, write_text
from mpo_lightning.files.strict_json import read_sidecar
from mpo_lightning.errors import InputError
from mpo_lightning.runs.agreement import of_rank_zero

MANIFEST = "manifest.json"
"""In the folder of a sharded checkpoint."""


class HashingFile:
    """A file for torch.save, which writes once from start to end; synced when its context ends."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.digest = hashlib.sha256()
        self.bytes = 0
        self.failure: OSError | None = None

    def __enter__(self) -> "HashingFile":
        return self

    def __exit__(self, *_: Any) -> None:
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.bytes += len(view)
        try:
            self.file.write(view)
        except OSError as error:
            # torch would put words of its own in its place.
            self.failure = error
            raise
        return len(view)

    def flush(self) -> None:
        self.file.flush()

    def tell(self) -> int:
        return self.bytes

    def close(self) -> None:
        """Left to the context's end, where the file is synced first."""

    @property
    def entry(self) -> dict[str, Any]:
        """Of a manifest."""
        return {"bytes": self.bytes, "sha256": self.digest.hexdigest()}


def manifest_of(path: Path) -> Path:
    """Where a checkpoint file's manifest lies."""
    return path.with_name(f"{path.name}.json")


class ManifestCheckpointIO(TorchCheckpointIO):
    """Writes a file and its manifest; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self._deferred: list[str] | None = None

    @contextmanager
    def deferring(self) -> Iterator[list[str]]:
        """Inside, what cannot be written is noted in the list instead of raised; for saves after which other ranks wait
        for this one.
        """
        self._deferred = []
        try:
            yield self._deferred
        finally:
            self._deferred = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Raises InputError where the disk is full or may not be written; checkpoints that were there stay."""
        target = Path(path)
        partial = partial_of(target)
        file: HashingFile | None = None
        complete = False
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with HashingFile(partial) as file:
                torch.save(checkpoint, file)  # type: ignore[arg-type]
            write_text(
                manifest_of(target), json.dumps(file.entry | manifest_fields(checkpoint, "optimizer_states" in checkpoint))
            )
            # From here on the manifest is the new file's, which is whole under either name.
            complete = True
            partial.rename(target)
            sync_folder(target.parent)
        except (OSError, RuntimeError) as error:
            if not complete:
                partial.unlink(missing_ok=True)
            problem = cannot_be_written(target, (file and file.failure) or error)
            if self._deferred is None:
                raise InputError(problem) from None
            self._deferred.append(problem)

    def load_checkpoint(
        self, path: _PATH, map_location: Callable[..., Any] | None = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """As Lightning's, but nothing in the file can run code, and every rank reads the one that rank 0 chose.

        Raises:
            InputError: the checkpoint is of a sharded run, or was there a moment ago and is not any more.
        """
        path = of_rank_zero(str(path))
        if Path(path).is_dir():
            raise InputError(
                f"--ckpt_path {path}: the checkpoint is of a sharded run; go on with configs/strategy/fsdp2.yaml "
                "(any number of devices), or "
                "'mpo model export' it and start from the folder"
            )
        try:
            loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such checkpoint; if it was there a moment ago, a run that writes there keeps its latest "
                "alone, so start again"
            ) from None
        return loaded

    def remove_checkpoint(self, path: _PATH) -> None:
        super().remove_checkpoint(path)
        manifest_of(Path(path)).unlink(missing_ok=True)


def manifest_fields(checkpoint: dict[str, Any], complete: bool) -> dict[str, Any]:
    """What a manifest says of a checkpoint beside its bytes: the step, and whether it holds weights alone, from which
    no run goes on.
    """
    return {"step": checkpoint.get("global_step")} | ({} if complete else {"weights_alone": True})


def cannot_be_written(target: Path, error: Exception) -> str:
    """The message for a disk that is full or may not be written."""
    # torch wraps what its writer says.
    reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return (f"{target}: the checkpoint cannot be written ({reason}); earlier ones are whole, go on from them with "
        "--ckpt_path auto")


def problem_of(path: Path, manifest: Path | None = None) -> str | None:
    """Why a checkpoint is not whole, or None.

    Reads all of it. `manifest` is that of a file that does not have its name yet.
    """
    manifest = path / MANIFEST if path.is_dir() else manifest or manifest_of(path)
    if not manifest.is_file():
        return "it has no manifest"
    try:
        content = read_sidecar(manifest)
        files = {path / name: entry for name, entry in content["files"].items()} if path.is_dir() else {path: content}
        if any(file.parent != path for file in files if file != path):
            return "its manifest names files elsewhere"
        if path.is_dir() and not {".metadata", "meta.pt"} <= content["files"].keys():
            return "its manifest lacks a part"
        # Hashing lets other threads run.
        with ThreadPoolExecutor() as pool:
            problems = pool.map(_problem_of_file, files, files.values())
            return next((problem for problem in problems if problem), None)
    except KeyError as error:
        return f"its manifest lacks {error}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"it cannot be read ({error})"


def _problem_of_file(path: Path, expected: dict[str, Any]) -> str | None:
    size = path.stat().st_size
    if size != expected["bytes"]:
        return f"{path.name} has {size:,} bytes and its manifest says {expected['bytes']:,}"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
            return f"the bytes of {path.name} differ from its manifest's checksum"
    return None
