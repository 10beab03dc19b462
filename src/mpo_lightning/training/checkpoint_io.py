"""Checkpoint files that are either whole or not there: hashed while they are written, synced, renamed into place.

    NAME.ckpt         the state, streamed to disk (Lightning's own way holds a second copy of it in memory)
    NAME.ckpt.json    its manifest: bytes and sha256; written before NAME.ckpt gets its name

A kill at any moment leaves the file whole, or under another name. Damage that comes later shows by the manifest.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from mpo_lightning.errors import InputError


class _HashingFile:
    """A file for torch.save, which writes once from start to end."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.bytes += len(view)
        self.file.write(view)
        return len(view)

    def flush(self) -> None:
        self.file.flush()


def manifest_of(path: Path) -> Path:
    """Where a checkpoint file's manifest lies."""
    return path.with_name(f"{path.name}.json")


class ManifestCheckpointIO(TorchCheckpointIO):
    """Writes a file and its manifest; see the module."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Raises InputError where the disk is full or may not be written; checkpoints that were there stay."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = _HashingFile(partial)
            with file.file:
                torch.save(checkpoint, file)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.file.fileno())
            manifest = json.dumps({"bytes": file.bytes, "sha256": file.digest.hexdigest()})
            _write_synced(manifest_of(target), manifest)
            partial.rename(target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:
            # torch wraps what its writer says.
            partial.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
            raise InputError(
                f"{target}: the checkpoint cannot be written ({reason}); earlier ones are whole, go on from them with --ckpt_path auto"
            ) from None

    def load_checkpoint(
        self, path: _PATH, map_location: Callable[..., Any] | None = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """As Lightning's, but nothing in the file can run code."""
        loaded: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only=True)
        return loaded

    def remove_checkpoint(self, path: _PATH) -> None:
        super().remove_checkpoint(path)
        manifest_of(Path(path)).unlink(missing_ok=True)


def problem_of(path: Path) -> str | None:
    """Why a checkpoint file is not whole, or None. Reads all of it."""
    manifest = manifest_of(path)
    if not manifest.is_file():
        return "it has no manifest"
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"it has {size:,} bytes and its manifest says {expected['bytes']:,}"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                return "its bytes differ from its manifest's checksum"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it cannot be read ({error})"
    return None


def _write_synced(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
