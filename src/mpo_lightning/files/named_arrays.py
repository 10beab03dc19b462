"""Arrays in files named by their contents. Damage is detected, and an old file is never overwritten."""

import hashlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from mpo_lightning.files.whole import whole_file


def save_array(target: Path, name: str, rows: np.ndarray) -> str:
    """Writes an array to a file named by its bytes and returns the name."""
    file_name = array_name(name, rows)
    with whole_file(target / file_name, "wb") as file:
        np.save(file, rows)
    return file_name


def array_name(kind: str, rows: np.ndarray) -> str:
    """The file name of an array, derived from its bytes."""
    return f"{kind}-{hashlib.sha256(rows.view(np.uint8).data if len(rows) else b'').hexdigest()[:16]}.npy"


def open_array(path: Path, kind: str, name: str | None = None) -> np.ndarray:
    """Opens a memory-mapped array and compares all its bytes with its name, or with the name it will get.

    Raises OSError or ValueError.
    """
    name = name or path.name
    try:
        rows: np.ndarray = np.load(path, "r", allow_pickle=False)
    except (EOFError, SyntaxError, TokenError, OverflowError, MemoryError) as error:
        raise ValueError(f"{name} is not an array ({error})") from None
    except ValueError as error:
        if "mmap" not in str(error) and "empty" not in str(error):
            raise
        rows = np.load(path, allow_pickle=False)  # an empty array cannot be mapped
    if name != array_name(kind, rows) or (
        path.stat().st_size != getattr(rows, "offset", 0) + rows.nbytes and len(rows)
    ):
        raise ValueError(f"the bytes of {name} do not match its name")
    return rows
