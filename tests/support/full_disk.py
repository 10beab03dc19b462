"""A disk that fills up while a run writes to it."""

from pathlib import Path

import lightning as L


class Fill(L.Callback):
    """Takes all room of a small disk when training gets to a hook.

    Args:
        disk: where it is mounted.
        hook: of Lightning's callbacks.
        step: how far the run has to be.
    """

    def __init__(self, disk: str, hook: str, step: int) -> None:
        self.disk, self.step = Path(disk), step
        setattr(self, hook, self._fill)

    def _fill(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step < self.step:
            return
        with (self.disk / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return
