"""The LightningDataModule: shards, the plan, and loaders of PairBatches."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from mpo_lightning.data.batch import PairBatch, refuse_untrainable
from mpo_lightning.data.dataset import PairDataset
from mpo_lightning.data.encoding import Overlong
from mpo_lightning.data.plan import Plan, PlanSampler
from mpo_lightning.data.prompts import Prompt, ShardQuestions
from mpo_lightning.data.shards.join import open_shards
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.reference_cache import cache_meta, open_cache
from mpo_lightning.data.shards.remote import is_remote, refuse_secrets
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.digests import weights_fingerprint
from mpo_lightning.models.flops import pair_flops
from mpo_lightning.models.loading import load_processor, native_folder, read_config
from mpo_lightning.runs.agreement import gather, stop_together
from mpo_lightning.runs.signals import ignore_signals
from mpo_lightning.training.data_order import describe_order, limited, order_difference
from mpo_lightning.training.quarantine import Quarantine

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class MMPRDataModule(L.LightningDataModule):
    """Loads preference pairs from indexed WebDataset shards, in the order of the plan.

    Args:
        processor: checkpoint folder whose tokenizer, template and tile size are used; the command sets it to
            model.policy.
        train: shard folder to train on (`mpo data shard` makes OUTPUT/train), or several with weights, {FOLDER: 1,
            FOLDER: 0.5}, by which each data set's repeat_time is multiplied. A folder may be a URL (http, https, s3, gs
                and what else fsspec opens).
        validation: shard folder to validate on; None does not validate.
        test: shard folder for `mpo test`; None takes `validation`.
        template: chat template; "auto" is the one that the model's config names or its language model implies.
        global_batch_size: pairs in an optimizer step, over all devices. Accumulation follows from it.
        micro_batch_size: most pairs that a device computes at once, as one row without padding.
        max_row_tokens: most tokens in such a row, as the index counts them; a step then takes as many rows as its
            fullest one needs, and short pairs share rows up to micro_batch_size. Epochs beyond trainer.max_epochs (or
            the first, if that is not set) may exceed it. null is no limit.
        max_tiles: tiles of a pair's pictures together, thumbnails not counted; a data set's max_dynamic_patch replaces
            it.
        max_length: most tokens of prompt plus answer.
        overlong: "truncate" cuts an answer that does not fit from the right, without its end token; "set_aside" treats
            the pair as a bad record. A prompt that leaves no room is a bad record either way.
        on_bad_record: "strict" stops at the first; "quarantine" writes it to quarantine-RANK.jsonl in the run folder,
            counts it and goes on without it; the command then ends with exit code 3.
        num_workers: loader processes a device.
        seed: of the order and of augmentation; None takes seed_everything's.
        cached_reference: take reference log-probs from what `mpo data reference` left beside the shards; the command
            sets it from model.reference_source.
        reference: the reference's folder, for the cache; None is `processor`. The command sets it to model.reference.
        cache_gib: most that this machine keeps of each remote folder's shards, in ~/.cache/mpo-lightning or
            MPO_LIGHTNING_CACHE. Room for 32 shards lets them come ahead of need.
    """

    def __init__(
        self,
        processor: str,
        train: str | dict[str, float] | None = None,
        validation: str | None = None,
        test: str | None = None,
        template: str = "auto",
        global_batch_size: int = 256,
        micro_batch_size: int = 1,
        max_row_tokens: int | None = None,
        max_tiles: int = 12,
        max_length: int = 6144,
        overlong: Overlong = "truncate",
        on_bad_record: Literal["strict", "quarantine"] = "strict",
        num_workers: int = 8,
        seed: int | None = None,
        cached_reference: bool = False,
        reference: str | None = None,
        cache_gib: float = 64.0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("global_batch_size", global_batch_size, 1),
            ("micro_batch_size", micro_batch_size, 1),
            ("max_tiles", max_tiles, 1),
            ("max_row_tokens", max_row_tokens, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value is not None and value < least:
                raise InputError(f"data.{name} must be at least {least}, got {value}")
        for folder in filter(
            is_remote, [*([train] if isinstance(train, str) else train or ()), validation or "", test or ""]
        ):
            refuse_secrets(folder)  # before config.yaml is written
        if not cache_gib > 0:
            raise InputError(f"data.cache_gib must be above 0, got {cache_gib}")
        self.folders: dict[str, str | dict[str, float] | None] = {
            "train": train,
            "validation": validation,
            "test": test or validation,
        }
        self.cache_bytes = int(cache_gib * 2**30)
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.max_row_tokens = max_row_tokens
        self.quarantine = Quarantine(strict=on_bad_record == "strict")
        self.num_workers = num_workers
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.config = read_config(processor)
        self.processor = load_processor(processor, template)
        self.encoder = self.processor.encoder(max_tiles, max_length, overlong)
        self.reference_folder = (reference or processor) if cached_reference else None
        self._reference_fingerprint = ""
        self.train_plan: Plan | None = None
        self._done_steps = 0
        self._asked: tuple[Any, int] | None = None
        self._questions: ShardQuestions | None = None

    def setup(self, stage: str) -> None:
        """Plans the order, and sets Lightning's accumulation to what the global batch needs on this many devices.

        Raises:
            InputError: the user asked for another accumulation, or to repeat some batches out of the order.
        """
        if self.trainer is None:
            return
        if str(self.trainer.precision) not in PRECISIONS:
            raise InputError(
                f"trainer.precision {self.trainer.precision} is not supported; weights stay float32 (updates of 5e-6 "
                "vanish below it), so use "
                f"one of {', '.join(PRECISIONS)}"
            )
        # Asking for log_dir is a broadcast, so every rank asks here and none later, when it alone has a bad record.
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        self.quarantine.open(folder, self.trainer.global_rank, self.trainer.world_size)
        if self.reference_folder is not None:
            # Only one rank reads all the weights.
            found = weights_fingerprint(native_folder(self.reference_folder)) if self.trainer.is_global_zero else ""
            self._reference_fingerprint = self.trainer.strategy.broadcast(found)
        if stage == "validate" and self.folders["validation"] is None:
            raise InputError("no shards to evaluate; give --data.validation FOLDER")
        if stage != "fit":
            return
        if self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise InputError(
                "trainer.overfit_batches would replace the order; use trainer.limit_train_batches with several epochs"
            )
        if not self.trainer.limit_train_batches:
            raise InputError("trainer.limit_train_batches is 0, so nothing would be trained; leave it out or raise it")
        self.train_plan = limited(self._plan("train"), self.trainer.limit_train_batches)
        # Folders of the same name on several machines, or a URL whose shards are being replaced.
        same = len(set(gather(self.train_plan.index.fingerprint))) == 1
        stop_together(
            None if same else f"{self.folders['train']}: not every rank finds the same shards there; copy them again"
        )
        self._done_steps = 0
        wanted = self.train_plan.micro_batches_per_step
        if self.trainer.accumulate_grad_batches not in (1, wanted):
            raise InputError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}, but "
                f"data.global_batch_size {self.global_batch_size} on "
                f"{self.trainer.world_size} devices with micro-batches of {self.micro_batch_size} takes {wanted}; "
                "leave it out"
            )
        idle = self.trainer.world_size * wanted - self.global_batch_size
        if wanted == 1 and idle > 0:
            rank_zero_warn(
                f"data.global_batch_size {self.global_batch_size} leaves {idle} of {self.trainer.world_size} devices "
                "without a pair in every "
                "step; use fewer devices or a larger batch"
            )
        self._asked = (self.trainer.limit_train_batches, self.trainer.accumulate_grad_batches)
        # The plan keeps to the limit in whole steps; Lightning's own would cut one in two.
        self.trainer.limit_train_batches = 1.0
        self.trainer.accumulate_grad_batches = wanted

    def teardown(self, stage: str) -> None:
        """Gives the trainer back what the user had asked of it, for the next fit."""
        if self._asked is not None and self.trainer is not None:
            self.trainer.limit_train_batches, self.trainer.accumulate_grad_batches = self._asked
            self._asked = None

    def _plan(self, split: str) -> Plan:
        folder = self.folders[split]
        if folder is None:
            raise InputError(
                f"no shards to {'train on' if split == 'train' else 'evaluate'}; give --data.{split} FOLDER"
            )
        index = open_shards(folder, self.cache_bytes)
        if not len(index):
            raise InputError(f"{folder}: the shards hold no usable record")
        if self.reference_folder is not None and index.source is not None:
            raise InputError(
                f"{folder}: reference_source cache reads log-probs beside one folder of shards on this machine; copy "
                "or shard the sets together, or "
                "set model.reference_source to model"
            )
        world = self.trainer.world_size if self.trainer else 1
        train = split == "train"
        size = self.global_batch_size if train else world * self.micro_batch_size
        epochs = max(1, (self.trainer.max_epochs if train and self.trainer else 1) or 1)
        return Plan(
            index,
            self.seed,
            size,
            self.micro_batch_size,
            world,
            train,
            max_row_tokens=self.max_row_tokens,
            tokens_per_tile=self.encoder.tokens_per_tile,
            epochs=epochs,
            flops=self._flops,
        )

    def _flops(self, rows: np.ndarray) -> np.ndarray:
        """Work of each of some rows of an index."""
        tiles = rows["tiles"].astype(np.float64)
        prompt = rows["prompt_tokens"] + self.encoder.tokens_per_tile * tiles
        flops: np.ndarray = pair_flops(
            self.config, tiles, prompt, rows["chosen_tokens"], rows["rejected_tokens"].astype(np.float64)
        )
        return flops

    def _loader(self, split: str) -> DataLoader[PairBatch]:
        plan = self.train_plan if split == "train" and self.train_plan else self._plan(split)
        done_steps = self._done_steps if split == "train" else 0
        sampler = PlanSampler(plan, self.trainer.global_rank if self.trainer else 0, done_steps)
        cache = None
        if self.reference_folder is not None and self.trainer is not None:
            meta = cache_meta(plan.index, self.encoder, self._reference_fingerprint, str(self.trainer.precision))
            cache = open_cache(plan.index, meta)
        return DataLoader(
            PairDataset(ShardReader(plan.index), self.encoder, self.seed, augment=split == "train", cache=cache),
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_signals,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def train_dataloader(self) -> DataLoader[PairBatch]:
        return self._loader("train")

    def val_dataloader(self) -> Any:
        return self._loader("validation") if self.folders["validation"] else []

    def test_dataloader(self) -> DataLoader[PairBatch]:
        return self._loader("test")

    def sample_prompts(self, count: int) -> list[Prompt]:
        """Questions of validation pairs, the same ones every time; those that can be read."""
        folder = self.folders["validation"]
        assert folder is not None, "asked only where there are validation shards"
        if self._questions is None:
            self._questions = ShardQuestions(open_shards(folder, self.cache_bytes))
        questions = self._questions
        prompts, count = [], min(count, len(questions))
        for number in [place * len(questions) // count for place in range(count)]:
            with suppress(BadRecord):  # validation names it
                prompts.append(questions[number])
        return prompts

    def on_before_batch_transfer(self, batch: PairBatch, dataloader_idx: int) -> PairBatch:
        """Stops at bad records, or sets them aside in a file; see `Quarantine`.

        Stops at pairs that would teach nothing.
        """
        self.quarantine.take(batch)
        refuse_untrainable(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the order, one integer, what the order was made of, and which records were set aside; every rank
        calls this.
        """
        assert self.trainer is not None and self.train_plan is not None
        order = describe_order(self.train_plan, self.encoder)
        return {"step": self.trainer.global_step, "set_aside": self.quarantine.state_dict()} | order

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a training run's place; the number of devices, workers and the micro-batch size may have changed.

        Raises:
            InputError: the checkpoint's order was another one; one sentence for all ranks.
        """
        if self.trainer is None or self.train_plan is None:
            return
        self.quarantine.load_state_dict(state_dict.get("set_aside", []))
        now = describe_order(self.train_plan, self.encoder)
        stop_together(order_difference(state_dict, now, self.folders["train"]))
        self._done_steps = state_dict["step"]
