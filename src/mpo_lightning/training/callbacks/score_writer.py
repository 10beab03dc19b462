"""Writes the output of `mpo test`: one JSON line a pair, with its log-probs and rewards."""

import json
from pathlib import Path
from typing import Any

import lightning as L


class ScoreWriter(L.Callback):
    """Writes scores-RANK.jsonl into the run folder, a batch at a time.

    Args:
        folder: folder to write to; None is the run folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._path = Path()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        folder = Path(self.folder or trainer.log_dir or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"scores-{trainer.global_rank}.jsonl"
        self._path.write_text("", encoding="utf-8")

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in outputs["rows"])

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        print(f"scores: {self._path}")
