"""Atomic checkpoints: hashed while they are written, synced, and renamed into place.

    NAME.ckpt         the state, streamed to disk (Lightning's own way holds a second copy of it in memory)
    NAME.ckpt.json    its manifest: bytes, sha256 and step; written before NAME.ckpt gets its name

A sharded run writes a folder instead (`sharded`):

    NAME.ckpt/        one file per rank with its shards, torch's table of them, and meta.pt with the rest of the state
        manifest.json bytes and sha256 of each, and the step; written last, before NAME.ckpt gets its name

A kill at any moment leaves an intact checkpoint, possibly under another name, which `recovery` then corrects. The
manifest reveals later damage.
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

from mpo_lightning.errors import InputError
from mpo_lightning.files.strict_json import read_sidecar
from mpo_lightning.files.whole import partial_of, sync_folder, write_text
from mpo_lightning.runs.agreement import of_rank_zero

MANIFEST = "manifest.json"
"""Name of the manifest in the folder of a sharded checkpoint."""


class HashingFile:
    """A file for torch.save that is hashed while it is written once from start to end, and synced on exit."""

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
            # torch would replace it by an error of its own.
            self.failure = error
            raise
        return len(view)

    def flush(self) -> None:
        self.file.flush()

    def tell(self) -> int:
        return self.bytes

    def close(self) -> None:
        """Does nothing; the file is synced and closed when its context ends."""

    @property
    def entry(self) -> dict[str, Any]:
        """The file's entry in a manifest."""
        return {"bytes": self.bytes, "sha256": self.digest.hexdigest()}


def manifest_of(path: Path) -> Path:
    """Returns the path of a checkpoint file's manifest."""
    return path.with_name(f"{path.name}.json")


class ManifestCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint file and its manifest atomically."""

    def __init__(self) -> None:
        super().__init__()
        self._deferred: list[str] | None = None

    @contextmanager
    def deferring(self) -> Iterator[list[str]]:
        """Inside the context, write errors are added to the yielded list instead of raised.

        It is for saves after which other ranks wait for this one.
        """
        self._deferred = []
        try:
            yield self._deferred
        finally:
            self._deferred = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; earlier checkpoints stay if that fails.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        target = Path(path)
        partial = partial_of(target)
        file: HashingFile | None = None
        complete = False
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with HashingFile(partial) as file:
                torch.save(checkpoint, file)  # type: ignore[arg-type]
            write_text(
                manifest_of(target),
                json.dumps(file.entry | manifest_fields(checkpoint, "optimizer_states" in checkpoint)),
            )
            # From here on the manifest describes the new file, which is intact under either name.
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
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, loc: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Loads as Lightning does, but no code in the file can run, and every rank reads rank 0's choice.

        Raises:
            InputError: the checkpoint belongs to a sharded run, or has been removed meanwhile.
        """
        path = of_rank_zero(str(path))
        if Path(path).is_dir():
            raise InputError(
                f"--ckpt_path {path}: the checkpoint belongs to a sharded run; resume with configs/strategy/fsdp2.yaml "
                "(any number of devices), or run 'mpo model export' and start from the exported folder"
            )
        try:
            loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such checkpoint; if it was there a moment ago, a run that keeps only its latest "
                "checkpoint has removed it, so start again"
            ) from None
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        super().remove_checkpoint(path)
        manifest_of(Path(path)).unlink(missing_ok=True)


def manifest_fields(checkpoint: dict[str, Any], complete: bool) -> dict[str, Any]:
    """Returns a manifest's fields other than the hash: the step, and `weights_alone` if no run can resume from it."""
    return {"step": checkpoint.get("global_step")} | ({} if complete else {"weights_alone": True})


def cannot_be_written(target: Path, error: Exception) -> str:
    """Returns the message for a disk that is full or cannot be written."""
    # torch wraps its writer's error.
    reason = getattr(error, "strerror", None) or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return (
        f"{target}: the checkpoint cannot be written ({reason}); earlier ones are intact, resume from them with "
        "--ckpt_path auto"
    )


def problem_of(path: Path, manifest: Path | None = None) -> str | None:
    """Returns why a checkpoint is not intact, or None; reads all of it.

    Args:
        path: checkpoint file or folder.
        manifest: manifest of a file that has not been renamed yet; None takes the one next to it.
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
        # Hashing releases the GIL.
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
