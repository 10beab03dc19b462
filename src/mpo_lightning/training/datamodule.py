"""The LightningDataModule: opens shards, plans the order, and makes loaders of PairBatches."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from mpo_lightning.data.batch import PairBatch, refuse_untrainable
from mpo_lightning.data.dataset import PairDataset
from mpo_lightning.data.encoding import Overlong, Thinking
from mpo_lightning.data.pictures import Pixels
from mpo_lightning.data.plan import Plan
from mpo_lightning.data.prompts import Prompt, ShardQuestions
from mpo_lightning.data.samplers import PlanSampler
from mpo_lightning.data.shards.join import open_shards
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.reference_cache import cache_meta, open_cache
from mpo_lightning.data.shards.remote import is_remote, refuse_secrets
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.digests import weights_fingerprint
from mpo_lightning.models.loading import load_processor, native_folder, read_config
from mpo_lightning.models.rows.pair_rope import rope_limit
from mpo_lightning.runs.agreement import gather, stop_together
from mpo_lightning.runs.signals import ignore_signals
from mpo_lightning.training.data_order import FlopCosts, describe_order, limited, order_difference
from mpo_lightning.training.quarantine import Quarantine

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class MMPRDataModule(L.LightningDataModule):
    """Loads preference pairs from indexed WebDataset shards, in the order of the plan.

    Args:
        processor: checkpoint folder of the tokenizer, template and tile size; the command sets it to model.policy.
        train: shard folder to train on, such as OUTPUT/train of `mpo data shard`. Several folders have weights,
            {FOLDER: 1, FOLDER: 0.5}; a weight multiplies the repeat_time of each data set in it. A folder may be a URL
            that fsspec opens (http, https, s3, gs).
        validation: shard folder to validate on; None skips validation.
        test: shard folder for `mpo test`; None takes `validation`.
        template: chat template; "auto" is the one that the model's files say, and a start stops where they do not.
        system_message: "auto" is the one that the model's files say, "none" has no system turn, "default" is the
            template's own, "thinking" asks InternVL3.5 to think; else the text. A pair's system_prompt replaces it.
        trained_newline: train the newline behind an answer's end, as InternVL3.5's released code does; null does as the
            model's code.
        thinking: "trained" trains all of an answer, as the released code does; "context" only reads it to </think>.
        global_batch_size: pairs in an optimizer step, over all devices; it decides gradient accumulation.
        micro_batch_size: most questions that a device computes at once, as one row without padding.
        pairs_per_question: most pairs of one question that stay together in a step. They share its images, its prompt
            and the answers that they have in common; 1 shuffles all pairs, as the released code does.
        max_row_tokens: most tokens in a row, by the index's counts; null sets no limit. Short pairs share rows up to
            micro_batch_size. Epochs beyond trainer.max_epochs (default the first) may exceed it.
        max_tiles: most tiles of a pair's images together, without thumbnails; a data set's max_dynamic_patch replaces
            it.
        max_length: most tokens of prompt plus answer.
        pixels: "seen" takes images as a person sees them: turned upright by EXIF, transparent parts on white, 16 bits
            scaled. "reference" takes the released code's pixels, which differ for such images alone.
        overlong: "truncate" cuts an answer that does not fit from the right, without its end token; "set_aside" treats
            the pair as a bad record. A prompt that leaves no room is always a bad record.
        on_bad_record: "strict" stops at the first bad record; "quarantine" skips it, counts it and writes it to
            quarantine-RANK.jsonl in the run folder; the command then ends with exit code 3.
        num_workers: loader processes of each device.
        seed: seed of the order and of augmentation; None takes seed_everything's.
        cached_reference: read reference log-probs that `mpo data reference` left beside the shards; the command sets it
            from model.reference_source.
        reference: the reference's folder, for the cache; None is `processor`. The command sets it to model.reference.
        cache_gib: most GiB kept on this machine of each remote folder's shards, in ~/.cache/mpo-lightning or
            MPO_LIGHTNING_CACHE; with room for 32 shards they are downloaded ahead.
    """

    def __init__(
        self,
        processor: str,
        train: str | dict[str, float] | None = None,
        validation: str | None = None,
        test: str | None = None,
        template: str = "auto",
        system_message: str = "auto",
        trained_newline: bool | None = None,
        thinking: Thinking = "trained",
        global_batch_size: int = 256,
        micro_batch_size: int = 1,
        pairs_per_question: int = 15,
        max_row_tokens: int | None = None,
        max_tiles: int = 12,
        max_length: int = 6144,
        pixels: Pixels = "seen",
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
            ("pairs_per_question", pairs_per_question, 1),
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
        self.pairs_per_question = pairs_per_question
        self.max_row_tokens = max_row_tokens
        self.quarantine = Quarantine(strict=on_bad_record == "strict")
        self.num_workers = num_workers
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.config = read_config(processor)
        self.processor = load_processor(processor, template, system_message, trained_newline)
        self.encoder = self.processor.encoder(max_tiles, max_length, overlong, pixels, thinking)
        self.reference_folder = (reference or processor) if cached_reference else None
        self._reference_fingerprint = ""
        self.train_plan: Plan | None = None
        self._done_steps = 0
        self._asked: tuple[Any, int] | None = None
        self._questions: ShardQuestions | None = None

    def setup(self, stage: str) -> None:
        """Plans the order, and sets the accumulation that the global batch needs on this number of devices.

        Raises:
            InputError: the trainer asks for another accumulation, or for batches that the order does not have.
        """
        if self.trainer is None:
            return
        if str(self.trainer.precision) not in PRECISIONS:
            raise InputError(
                f"trainer.precision {self.trainer.precision} is not supported; weights stay float32 (updates of 5e-6 "
                f"vanish below it), so use one of {', '.join(PRECISIONS)}"
            )
        # log_dir is a broadcast: every rank asks here, since later one rank alone may have a bad record.
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        self.quarantine.open(folder, self.trainer.global_rank, self.trainer.world_size)
        if self.reference_folder is not None:
            # Only one rank reads all weights.
            found = weights_fingerprint(native_folder(self.reference_folder)) if self.trainer.is_global_zero else ""
            self._reference_fingerprint = self.trainer.strategy.broadcast(found)
        if stage == "validate" and self.folders["validation"] is None:
            raise InputError("no shards to evaluate; give --data.validation FOLDER")
        if stage != "fit":
            return
        if self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise InputError(
                "trainer.overfit_batches is not supported; use trainer.limit_train_batches with several epochs"
            )
        if not self.trainer.limit_train_batches:
            raise InputError("trainer.limit_train_batches is 0, so nothing would be trained; leave it out or raise it")
        rank_zero_info(self.processor.said)
        self.train_plan = limited(self._plan("train"), self.trainer.limit_train_batches)
        # Machines may hold different folders of one name, or a URL's shards may be changing.
        same = len(set(gather(self.train_plan.index.fingerprint))) == 1
        stop_together(None if same else f"{self.folders['train']}: ranks found different shards there; copy them again")
        self._done_steps = 0
        wanted = self.train_plan.micro_batches_per_step
        if self.trainer.accumulate_grad_batches not in (1, wanted):
            raise InputError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}, but "
                f"data.global_batch_size {self.global_batch_size} on "
                f"{self.trainer.world_size} devices with micro-batches of {self.micro_batch_size} needs {wanted}; "
                "leave it out"
            )
        idle = self.trainer.world_size * wanted - self.train_plan.most_groups
        if wanted == 1 and idle > 0:
            rank_zero_warn(
                f"data.global_batch_size {self.global_batch_size} leaves {idle} of {self.trainer.world_size} devices "
                "without a question in every step; use fewer devices or a larger batch"
            )
        self._asked = (self.trainer.limit_train_batches, self.trainer.accumulate_grad_batches)
        # The plan applies the limit in whole steps; Lightning would cut a step in two.
        self.trainer.limit_train_batches = 1.0
        self.trainer.accumulate_grad_batches = wanted

    def teardown(self, stage: str) -> None:
        """Restores the trainer's own limit and accumulation, for the next fit."""
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
                f"{folder}: reference_source cache needs one local folder of shards; copy or shard the sets together, "
                "or set model.reference_source to model"
            )
        world = self.trainer.world_size if self.trainer else 1
        train = split == "train"
        size = self.global_batch_size if train else world * self.micro_batch_size
        epochs = max(1, (self.trainer.max_epochs if train and self.trainer else 1) or 1)
        return Plan(
            index,
            self.seed,
            global_batch_size=size,
            micro_batch_size=self.micro_batch_size,
            world_size=world,
            shuffle=train,
            max_row_tokens=self.max_row_tokens,
            tokens_per_tile=self.encoder.tokens_per_tile,
            epochs=epochs,
            work=FlopCosts(self.config, self.encoder.tokens_per_tile),
            pairs_per_question=self.pairs_per_question,
        )

    def _loader(self, split: str) -> DataLoader[PairBatch]:
        plan = self.train_plan if split == "train" and self.train_plan else self._plan(split)
        done_steps = self._done_steps if split == "train" else 0
        sampler = PlanSampler(plan, self.trainer.global_rank if self.trainer else 0, done_steps)
        cache, shared = None, rope_limit(self.config.get_text_config())
        if self.reference_folder is not None and self.trainer is not None:
            meta = cache_meta(plan.index, self.encoder, self._reference_fingerprint, str(self.trainer.precision))
            cache = open_cache(plan.index, meta)
        return DataLoader(
            PairDataset(ShardReader(plan.index), self.encoder, self.seed, split == "train", cache, shared),
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
        """Returns up to `count` questions of validation pairs, the same every time, without unreadable ones."""
        folder = self.folders["validation"]
        assert folder is not None, "asked only where there are validation shards"
        if self._questions is None:
            self._questions = ShardQuestions(open_shards(folder, self.cache_bytes))
        questions = self._questions
        prompts, count = [], min(count, len(questions))
        for number in [place * len(questions) // count for place in range(count)]:
            with suppress(BadRecord):  # validation reports it
                prompts.append(questions[number])
        return prompts

    def on_before_batch_transfer(self, batch: PairBatch, dataloader_idx: int) -> PairBatch:
        """Skips bad records or stops at them (see `Quarantine`), and stops at pairs that would teach nothing."""
        self.quarantine.take(batch)
        refuse_untrainable(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Returns the step, the settings of the order, and the skipped records; every rank calls this."""
        assert self.trainer is not None and self.train_plan is not None
        order = describe_order(self.train_plan, self.encoder)
        return {"step": self.trainer.global_step, "set_aside": self.quarantine.state_dict()} | order

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes at the checkpoint's step; the numbers of devices and workers and the micro-batch size may differ.

        Raises:
            InputError: the checkpoint's order differs; all ranks raise the same sentence.
        """
        if self.trainer is None or self.train_plan is None:
            return
        self.quarantine.load_state_dict(state_dict.get("set_aside", []))
        now = describe_order(self.train_plan, self.encoder)
        stop_together(order_difference(state_dict, now, self.folders["train"]))
        self._done_steps = state_dict["step"]
