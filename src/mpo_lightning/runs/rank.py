"""The rank of this process when there is no process group: before, between and after Lightning's loops."""

import os
import time
from pathlib import Path

from mpo_lightning.errors import LostRank

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables for the rank, set by torchrun, Lightning's launcher, SLURM and LSF.

They are in Lightning's order, because everything started from an interactive SLURM shell has SLURM's variable.
"""

STARTER = os.getppid()
"""Id of the parent process, read before the parent can have ended."""


def is_first() -> bool:
    """Whether this process is rank 0, which reads and writes files for all."""
    node = os.environ.get("NODE_RANK", "0")
    for name in RANKS:
        if name in os.environ:
            return os.environ[name] == "0" and (name != "LOCAL_RANK" or node == "0")
    return node == "0"


def wait_for(path: Path) -> None:
    """Waits until rank 0 has written a file; returns at once in rank 0.

    Raises:
        LostRank: the parent of this process has ended.
    """
    while not is_first() and not path.exists():
        if os.getppid() != STARTER:
            raise LostRank("")
        time.sleep(0.2)
