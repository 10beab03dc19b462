"""Bad records of a run: every rank stops at them, or skips them and lists them in a file.

Several ranks stop where all of them meet (see `runs.agreement`): at the end of the global step or of the evaluation.
The optimizer has not stepped by then.
"""

import hashlib
import json
from pathlib import Path

import lightning as L

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.runs.agreement import gather, stop_together


class Quarantine:
    """Collects the records that cannot be used.

    Args:
        strict: stop at the first bad record; otherwise skip each and write it to quarantine-RANK.jsonl once.
        option: the command's option that skips records, for the message.
    """

    def __init__(self, strict: bool, option: str = "--data.on_bad_record quarantine") -> None:
        self.strict = strict
        self.option = option
        self.reasons: dict[str, str] = {}
        self.fatal: str | None = None
        self._earlier: set[str] = set()
        self._file = Path()
        self._alone = True

    def open(self, folder: Path, rank: int, world_size: int) -> None:
        """Sets the file's folder, this rank, and whether the stop waits for other ranks."""
        self._file = folder / f"quarantine-{rank}.jsonl"
        self._alone = world_size == 1

    def take(self, batch: PairBatch) -> None:
        """Takes the records that a micro-batch left out.

        Raises:
            InputError: a bad record in strict mode, or a fatal one, if this is the only rank.
        """
        for item in batch.set_aside:
            if item.where in self.reasons:
                continue
            self.reasons[item.where] = item.reason
            if item.fatal and self.fatal is None:
                self.fatal = f"{item.where}: {item.reason}"
            if not self.strict:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"where": item.where, "reason": item.reason}, ensure_ascii=False) + "\n")
        if self._alone:
            self.stop_together()

    def stop_together(self) -> None:
        """Stops every rank if one met a bad record in strict mode, or a fatal one; every rank calls this."""
        problem = self.fatal
        if problem is None and self.strict and self.reasons:
            where, reason = next(iter(self.reasons.items()))
            problem = f"{where}: {reason} (or skip such records with {self.option})"
        stop_together(problem)

    def state_dict(self) -> list[str]:
        """Returns hashes of the skipped records of all ranks since the run began; every rank calls this."""
        mine = [
            hashlib.blake2b(where.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
            for where in self.reasons
        ]
        return sorted(self._earlier.union(*gather(mine)))

    def load_state_dict(self, names: list[str]) -> None:
        self._earlier = set(names)

    def count(self) -> int:
        """Returns the number of distinct skipped records of all ranks since the run began; every rank calls this."""
        return len(self.state_dict())


def stop_at_bad_records(trainer: L.Trainer) -> None:
    """Stops every rank if the run's quarantine demands it; every rank calls this."""
    quarantine = getattr(getattr(trainer, "datamodule", None), "quarantine", None)
    if quarantine is not None:
        quarantine.stop_together()
