"""A loss or gradient that is no number any more: the run stops before the optimizer takes it in, and says on which records."""

import json
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist
from torch import Tensor

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.training.together import gather, stop_together


class NonFiniteGuard:
    """Remembers a step's records and their losses, on their device, until the step is known to be sound."""

    def __init__(self) -> None:
        self._parts: list[tuple[tuple[str, ...], Tensor]] = []

    def add(self, batch: PairBatch, totals: Tensor) -> None:
        """Takes in a micro-batch and the losses [real pairs] of its pairs."""
        self._parts.append((tuple(key for key in batch.keys if key), totals.detach()))

    def clear(self) -> None:
        """The step is sound."""
        self._parts = []

    def stop(self, what: str, value: float, folder: Path, step: int) -> NoReturn:
        """Writes the step's records into a file and stops every rank; every rank calls this.

        Args:
            what: the value's name.
            value: which is not finite.
            folder: of the run.
            step: its number.

        Raises:
            InputError: always; no weight has changed.
        """
        pairs = [(key, good) for keys, totals in self._parts for key, good in zip(keys, totals.isfinite().tolist(), strict=True)]
        everything = sorted(pair for part in gather(pairs) for pair in part)
        bad = [key for key, good in everything if not good]
        path = folder / f"nonfinite-step-{step}.json"
        if not dist.is_initialized() or dist.get_rank() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            report = {"step": step, "what": what, "value": str(value), "bad": bad, "records": [key for key, _ in everything]}
            path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        named = (
            f"record '{bad[0]}'" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "") if bad else "each record's loss is finite"
        )
        stop_together(
            f"{what} is {value} in step {step} ({named}; the step's records are in {path}) and the step was not taken; look at the records, lower "
            "the learning rate, or go on from an earlier checkpoint"
        )
        raise AssertionError("stop_together returns only without a problem")
