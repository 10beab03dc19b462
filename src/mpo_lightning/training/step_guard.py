"""Stops a run before a bad step (a loss or gradient that is not finite, or an exploding loss) and names its records."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from torch import Tensor

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.files.whole import write_json
from mpo_lightning.runs.agreement import gather, stop_together


class StepGuard:
    """Keeps a step's records and their losses, on their device, until the step is known to be sound."""

    def __init__(self) -> None:
        self._parts: list[tuple[list[str], Sequence[str], Tensor]] = []

    def add(self, batch: PairBatch, totals: Tensor) -> None:
        """Adds a micro-batch and the losses [real pairs] of its pairs."""
        keys = [key for key in batch.keys if key]
        self._parts.append((keys, batch.places or [""] * len(keys), totals.detach()))

    def clear(self) -> None:
        """Forgets the records of a sound step."""
        self._parts = []

    def stop(self, kind: str, problem: str, folder: Path, step: int, limit: float = math.inf) -> NoReturn:
        """Writes the step's records into a file and stops every rank; every rank calls this.

        Args:
            kind: kind of problem, which begins the file's name.
            problem: the problem in words.
            folder: the run's folder.
            step: number of the step.
            limit: largest loss in nats of a good record; a loss that is not finite is bad too.

        Raises:
            InputError: always; no weight has changed.
        """
        rows = sorted((row for part in gather(self._rows()) for row in part), key=lambda row: str(row["key"]))
        bad = [row["key"] for row in rows if not (math.isfinite(row["loss"]) and row["loss"] <= limit)]
        path = folder / f"{kind}-step-{step}.json"
        if not dist.is_initialized() or dist.get_rank() == 0:
            # Losses are strings, since JSON has no NaN.
            records = [row | {"loss": f"{row['loss']:.6g}"} for row in rows]
            write_json(path, {"step": step, "what": problem, "bad": bad, "records": records})
        named = (
            f"record '{bad[0]}'" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
            if bad
            else "no record stands out"
        )
        stop_together(
            f"{problem} in step {step} ({named}; the step's records are in {path}) and the step was not taken; look "
            "at the records, lower the learning rate, or resume from an earlier checkpoint"
        )
        raise AssertionError("stop_together returns only without a problem")

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"key": key, "shard": place, "loss": loss}
            for keys, places, totals in self._parts
            for key, place, loss in zip(keys, places, totals.tolist(), strict=True)
        ]
