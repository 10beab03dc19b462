"""Detects an exploding loss, so that the run stops before it spoils the weights.

A loss explodes if it is far above the median of earlier steps for several steps in a row. A few outliers do not move a
median. A hard batch exceeds the limit once and is trained on; a learning rate that is too high exceeds it every step.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from mpo_lightning.errors import InputError

FLOOR = 1.0
"""Least median in nats; losses near 0 easily differ by large factors."""


@dataclass(frozen=True)
class LossLimit:
    """When a loss counts as exploding.

    Attributes:
        factor: the limit, as a multiple of the median loss of earlier steps; null never stops.
        steps: number of steps in a row above the limit that stop the run.
        window: number of earlier steps that the median is taken over.
    """

    factor: float | None = 10.0
    steps: int = 3
    window: int = 50

    def __post_init__(self) -> None:
        if (self.factor is not None and not self.factor > 1) or min(self.steps, self.window) < 1:
            raise InputError(
                "model.loss_limit needs a factor above 1 (or null) and steps and window of at least 1, got "
                f"{self.factor}, {self.steps} and "
                f"{self.window}"
            )


class LossWatch:
    """Watches the loss of every step; a checkpoint holds its state.

    Args:
        limit: when a loss counts as exploding.
    """

    def __init__(self, limit: LossLimit) -> None:
        self.limit = limit
        self.sound: deque[float] = deque(maxlen=limit.window)
        self.above = 0

    @property
    def most(self) -> float | None:
        """The limit for the next loss, in nats; None before the first step and without a limit."""
        return (
            self.limit.factor * max(median(self.sound), FLOOR) if self.limit.factor is not None and self.sound else None
        )

    def take(self, loss: float) -> str | None:
        """Takes a step's mean loss in nats; returns the problem in words if the run has to stop, else None."""
        most = self.most
        if most is None or loss <= most:
            self.sound.append(loss)
            self.above = 0
            return None
        self.above += 1
        if self.above < self.limit.steps:
            return None
        return (
            f"the loss explodes: it is {loss:.4g}, and has been above {most:.4g} ({self.limit.factor:g} times the "
            f"median of the {len(self.sound)} normal steps before, model.loss_limit) for {self.above} steps in a row"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"sound": list(self.sound), "above": self.above}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sound.clear()
        self.sound.extend(state_dict["sound"])
        self.above = state_dict["above"]
