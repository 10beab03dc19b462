"""Arrays in files that are named by their contents: a file is what its name says, or it is damaged; and an old one is
never overwritten.
"""

import hashlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from mpo_lightning.files.whole import whole_file


def save_array(target: Path, name: str, rows: np.ndarray) -> str:
    """Writes an array under the name that its bytes give it, and returns that."""
    file_name = array_name(name, rows)
    with whole_file(target / file_name, "wb") as file:
        np.save(file, rows)
    return file_name


def array_name(kind: str, rows: np.ndarray) -> str:
    """The name of an array's file, which stands for its bytes."""
    return f"{kind}-{hashlib.sha256(rows.view(np.uint8).data if len(rows) else b'').hexdigest()[:16]}.npy"


def open_array(path: Path, kind: str, name: str | None = None) -> np.ndarray:
    """A memory-mapped array, all of it compared with what its name (or the one it is to get) stands for.

    Raises OSError or ValueError.
    """
    name = name or path.name
    try:
        rows: np.ndarray = np.load(path, "r", allow_pickle=False)
    except (EOFError, SyntaxError, TokenError, OverflowError, MemoryError) as error:
        raise ValueError(f"{name} is no array ({error})") from None
    except ValueError as error:
        if "mmap" not in str(error) and "empty" not in str(error):
            raise
        rows = np.load(path, allow_pickle=False)  # without a record there is nothing to map
    if name != array_name(kind, rows) or (
        path.stat().st_size != getattr(rows, "offset", 0) + rows.nbytes and len(rows)
    ):
        raise ValueError(f"the bytes of {name} are not those that its name stands for")
    return rows
