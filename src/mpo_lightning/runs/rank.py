"""Which process of several this is, when there is no process group to ask: before, between and after Lightning's loops.
"""

import os
import time
from pathlib import Path

from mpo_lightning.errors import LostRank

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Set by torchrun, Lightning's launcher, SLURM and LSF.

In Lightning's order: an interactive shell of SLURM has its number too, and so has all that it starts.
"""

STARTER = os.getppid()
"""The process that started this one, before it could have ended."""


def is_first() -> bool:
    """Whether this process is rank 0, which reads and writes files for all."""
    node = os.environ.get("NODE_RANK", "0")
    for name in RANKS:
        if name in os.environ:
            return os.environ[name] == "0" and (name != "LOCAL_RANK" or node == "0")
    return node == "0"


def wait_for(path: Path) -> None:
    """Waits until the first process has written a file; returns at once in the first process itself.

    Raises:
        LostRank: the process that started this one has ended.
    """
    while not is_first() and not path.exists():
        if os.getppid() != STARTER:
            raise LostRank("")
        time.sleep(0.2)
