"""Which process of several this is, before and between Lightning's loops, when there is no process group to ask."""

import os
import time
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from mpo_lightning.errors import LostRank


def own_rank() -> int:
    """Of this process; 0 where it is the only one."""
    return int(getattr(rank_zero_only, "rank", 0))


def is_first() -> bool:
    """Whether this process writes files for all."""
    return own_rank() == 0


def wait_for(path: Path) -> None:
    """Waits until the first process has written a file; returns at once in the first process itself.

    Raises:
        LostRank: the process that started this one has ended.
    """
    parent = os.getppid()
    while not is_first() and not path.exists():
        if os.getppid() != parent:
            raise LostRank("")
        time.sleep(0.2)
