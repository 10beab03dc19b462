"""Digests of file contents: of all bytes, or of blocks if a folder is too large to read."""

import hashlib
from pathlib import Path

BLOCK, BLOCKS = 2**16, 16


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weights_and_config(folder: str | Path) -> list[Path]:
    return sorted([*Path(folder).glob("*.safetensors"), Path(folder) / "config.json"])


def weights_fingerprint(folder: str | Path) -> str:
    """A hash of the bytes of a checkpoint folder's weights and config, wherever the folder is."""
    digest = hashlib.sha256()
    for path in _weights_and_config(folder):
        digest.update(path.name.encode())
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def folder_sample(folder: str | Path) -> str:
    """A hash of sixteen blocks of each weights and config file of a checkpoint folder; fast for any size.

    Training changes nearly every number, so another state of a model differs in these blocks.
    """
    digest = hashlib.sha256()
    for path in _weights_and_config(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for place in range(BLOCKS):
                file.seek(max(0, size - BLOCK) * place // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()
