"""The LightningDataModule: shards, the plan, and loaders of PairBatches."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch.utils.data import DataLoader

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.data.dataset import PairDataset
from mpo_lightning.data.encoding import Overlong
from mpo_lightning.data.index import open_index
from mpo_lightning.data.plan import Plan, PlanSampler
from mpo_lightning.data.reader import ShardReader
from mpo_lightning.errors import InputError
from mpo_lightning.models.loading import load_processor


class MMPRDataModule(L.LightningDataModule):
    """Loads preference pairs from indexed WebDataset shards, in the order of the plan.

    Args:
        processor: checkpoint folder whose tokenizer, template and tile size are used; the command sets it to model.policy.
        train: shard folder to train on (`mpo data shard` makes OUTPUT/train).
        validation: shard folder to validate on; None does not validate.
        test: shard folder for `mpo test` and `mpo predict`; None takes `validation`.
        template: chat template; "auto" is the one that the model's config names or its language model implies.
        global_batch_size: pairs in an optimizer step, over all devices. Accumulation follows from it.
        micro_batch_size: pairs that a device computes at once.
        max_tiles: tiles of a pair's pictures together, thumbnails not counted; a data set's max_dynamic_patch replaces it.
        max_length: most tokens of prompt plus answer.
        overlong: "truncate" cuts an answer that does not fit from the right, without its end token; "set_aside" treats the
            pair as a bad record. A prompt that leaves no room is a bad record either way.
        on_bad_record: "strict" stops at the first; "quarantine" writes it to quarantine-RANK.jsonl in the run folder, counts it
            and goes on without it.
        num_workers: loader processes a device.
        seed: of the order and of augmentation; None takes seed_everything's.
    """

    def __init__(
        self,
        processor: str,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        template: str = "auto",
        global_batch_size: int = 256,
        micro_batch_size: int = 1,
        max_tiles: int = 12,
        max_length: int = 6144,
        overlong: Overlong = "truncate",
        on_bad_record: Literal["strict", "quarantine"] = "strict",
        num_workers: int = 8,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("global_batch_size", global_batch_size),
            ("micro_batch_size", micro_batch_size),
            ("max_tiles", max_tiles),
        ):
            if value < 1:
                raise InputError(f"data.{name} must be at least 1, got {value}")
        self.folders = {"train": train, "validation": validation, "test": test or validation}
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.on_bad_record = on_bad_record
        self.num_workers = num_workers
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.processor = load_processor(processor, template)
        self.encoder = self.processor.encoder(max_tiles, max_length, overlong)
        self.quarantined = 0
        self._done_steps = 0
        self._run_folder = Path()

    def setup(self, stage: str) -> None:
        """Sets Lightning's accumulation to what the global batch needs on this many devices.

        Raises:
            InputError: the user asked for another accumulation.
        """
        if self.trainer is None:
            return
        # Asking for log_dir is a broadcast, so every rank asks here and none later, when it alone has a bad record.
        self._run_folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        if stage == "validate" and self.folders["validation"] is None:
            raise InputError("no shards to evaluate; give --data.validation FOLDER")
        if stage != "fit":
            return
        wanted = self._plan("train").micro_batches_per_step
        if self.trainer.accumulate_grad_batches not in (1, wanted):
            raise InputError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}, but data.global_batch_size {self.global_batch_size} on "
                f"{self.trainer.world_size} devices with micro-batches of {self.micro_batch_size} takes {wanted}; leave it out"
            )
        self.trainer.accumulate_grad_batches = wanted

    def _plan(self, split: str) -> Plan:
        folder = self.folders[split]
        if folder is None:
            raise InputError(f"no shards to {'train on' if split == 'train' else 'evaluate'}; give --data.{split} FOLDER")
        index = open_index(Path(folder))
        if not len(index):
            raise InputError(f"{folder}: the shards hold no usable record")
        world = self.trainer.world_size if self.trainer else 1
        train = split == "train"
        size = self.global_batch_size if train else world * self.micro_batch_size
        return Plan(index, self.seed, size, self.micro_batch_size, world, shuffle=train)

    def _loader(self, split: str) -> DataLoader[PairBatch]:
        plan = self._plan(split)
        done_steps = self._done_steps if split == "train" else 0
        sampler = PlanSampler(plan, self.trainer.global_rank if self.trainer else 0, done_steps)
        return DataLoader(
            PairDataset(ShardReader(plan.index), self.encoder, self.seed, augment=split == "train"),
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def train_dataloader(self) -> DataLoader[PairBatch]:
        return self._loader("train")

    def val_dataloader(self) -> Any:
        return self._loader("validation") if self.folders["validation"] else []

    def test_dataloader(self) -> DataLoader[PairBatch]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        return self._loader("test")

    def on_before_batch_transfer(self, batch: PairBatch, dataloader_idx: int) -> PairBatch:
        """Stops at bad records, or sets them aside in a file.

        Raises:
            InputError: a bad record, in strict mode.
        """
        for item in batch.set_aside:
            if self.on_bad_record == "strict":
                raise InputError(f"{item.where}: {item.reason} (or set such records aside with --data.on_bad_record quarantine)")
            assert self.trainer is not None
            self._run_folder.mkdir(parents=True, exist_ok=True)
            with (self._run_folder / f"quarantine-{self.trainer.global_rank}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"where": item.where, "reason": item.reason}, ensure_ascii=False) + "\n")
            self.quarantined += 1
        return batch

    def teardown(self, stage: str) -> None:
        if self.quarantined:
            print(f"{self.quarantined} records were set aside; quarantine-*.jsonl in the run folder says why")

    def state_dict(self) -> dict[str, Any]:
        """The place in the order: one integer, and what it was counted in."""
        assert self.trainer is not None
        done: int = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return {
            "step": done // self.trainer.accumulate_grad_batches,
            "global_batch_size": self.global_batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises InputError when the checkpoint's order was another one."""
        for name in ("global_batch_size", "seed"):
            if state_dict[name] != getattr(self, name):
                raise InputError(
                    f"the checkpoint was made with data.{name} {state_dict[name]}, not {getattr(self, name)}; a resumed run must keep it"
                )
        self._done_steps = state_dict["step"]
