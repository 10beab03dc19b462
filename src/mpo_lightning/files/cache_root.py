"""The folder for copies that can be made again: ~/.cache/mpo-lightning, or MPO_LIGHTNING_CACHE."""

import os
from pathlib import Path


def cache_root() -> Path:
    """The cache folder; it may not exist yet."""
    chosen = os.environ.get("MPO_LIGHTNING_CACHE")
    return (
        Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpo-lightning"
    )
