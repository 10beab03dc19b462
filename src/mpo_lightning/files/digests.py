"""Names for the content of files: digests of all of it, or of blocks where a folder is too large to read."""

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
    """Names a checkpoint folder's weights and config, wherever it lies: a hash of their bytes."""
    digest = hashlib.sha256()
    for path in _weights_and_config(folder):
        digest.update(path.name.encode())
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def folder_sample(folder: str | Path) -> str:
    """Names a checkpoint folder's weights and config by sixteen blocks of each file, wherever it lies; quick however
    large they are.

    Training moves nearly every number, so that another state of a model differs in the blocks.
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
