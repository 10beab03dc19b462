"""Bad records of a run: it stops at them, or sets them aside in a file, on every rank alike.

A rank that alone raised would leave the others waiting in their next collective until they time out. So with several ranks the
stop comes where all of them meet: at the end of the global step, or of the evaluation. Nothing was trained on in between, since
the optimizer has not stepped yet.
"""

import json
from pathlib import Path

import torch.distributed as dist

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.errors import InputError


class Quarantine:
    """Collects the records that could not be used.

    Args:
        strict: stop at the first; otherwise write each into quarantine-RANK.jsonl once and go on.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.reasons: dict[str, str] = {}
        self._file = Path()
        self._alone = True

    def open(self, folder: Path, rank: int, world_size: int) -> None:
        """Says where the file goes, and whether other ranks have to be waited for."""
        self._file = folder / f"quarantine-{rank}.jsonl"
        self._alone = world_size == 1

    def take(self, batch: PairBatch) -> None:
        """Takes in what a micro-batch left out.

        Raises:
            InputError: in strict mode, where no other rank waits.
        """
        for item in batch.set_aside:
            if item.where in self.reasons:
                continue
            self.reasons[item.where] = item.reason
            if not self.strict:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"where": item.where, "reason": item.reason}, ensure_ascii=False) + "\n")
        if self._alone:
            self.stop_together()

    def stop_together(self) -> None:
        """Stops every rank if any of them met a bad record in strict mode; every rank calls this.

        Raises:
            InputError: on rank 0, which speaks for all.
            SystemExit: on the others, with code 0, since a launcher kills rank 0 when another rank fails before it has spoken.
        """
        if not self.strict:
            return
        found = self._gathered()
        if found:
            if not self._alone and dist.get_rank() != 0:
                raise SystemExit(0)
            where, reason = next(iter(found.items()))
            raise InputError(f"{where}: {reason} (or set such records aside with --data.on_bad_record quarantine)")

    def count(self) -> int:
        """Different records that were set aside, over all ranks; every rank calls this."""
        return len(self._gathered())

    def _gathered(self) -> dict[str, str]:
        if self._alone:
            return self.reasons
        parts: list[dict[str, str]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self.reasons)
        return {where: reason for part in parts for where, reason in part.items()}
