"""When a loss explodes: it is far above what it has been for several steps in a row, and training on would only spoil
the weights.

What it has been is the median of the sound steps before, which a few outliers do not move. A hard batch exceeds the
limit once and is trained on; a learning rate that is too high exceeds it step after step.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from mpo_lightning.errors import InputError

FLOOR = 1.0
"""Nats: losses near 0, which are a multiple of each other easily, are taken for this."""


@dataclass(frozen=True)
class LossLimit:
    """What counts as an exploding loss.

    Attributes:
        factor: how many times the median of earlier steps' losses; null never stops.
        steps: how many steps in a row have to exceed it.
        window: earlier steps that the median is taken over.
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
    """Takes in the loss of step after step; a resumed run goes on with its state.

    Args:
        limit: what counts as exploding.
    """

    def __init__(self, limit: LossLimit) -> None:
        self.limit = limit
        self.sound: deque[float] = deque(maxlen=limit.window)
        self.above = 0

    @property
    def most(self) -> float | None:
        """Nats that a loss may have now; None before the first step and without a limit."""
        return (
            self.limit.factor * max(median(self.sound), FLOOR) if self.limit.factor is not None and self.sound else None
        )

    def take(self, loss: float) -> str | None:
        """Takes in a step's mean loss; in words what is wrong if it is the one at which the run has to stop."""
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
            f"median of the {len(self.sound)} sound "
            f"steps before, model.loss_limit) for {self.above} steps in a row"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"sound": list(self.sound), "above": self.above}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sound.clear()
        self.sound.extend(state_dict["sound"])
        self.above = state_dict["above"]
