"""SIGTERM to one rank at a moment that a test chooses."""

import os
import signal
from typing import Any

import lightning as L


class Signalled(L.Callback):
    """In a hook of Lightning's.

    Args:
        hook: its name.
        rank: the only one that gets it.
    """

    def __init__(self, hook: str, rank: int = 1) -> None:
        self.rank = rank
        setattr(self, hook, self._send)

    def _send(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)
