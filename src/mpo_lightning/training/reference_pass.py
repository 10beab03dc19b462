"""`mpo data reference`: one pass of the reference over a shard folder, whose log-probs are kept beside the shards."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from mpo_lightning.data.batch import PairBatch, SetAside, collate
from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.samplers import Slices
from mpo_lightning.data.shards.index import ShardIndex, open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.reference_cache import (
    MISSING,
    ROW,
    cache_folder,
    cache_meta,
    finish_cache,
    finished_rows,
    open_cache,
    pair_digest,
    part_bytes,
)
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.digests import weights_fingerprint
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.loading import load_model, native_folder, read_config
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.models.rows.pair_rope import rope_limit
from mpo_lightning.models.rows.prefix_layout import Backend
from mpo_lightning.runs.lost_ranks import run_whole
from mpo_lightning.runs.signals import ignore_signals
from mpo_lightning.training.quarantine import Quarantine

MOST_PAIRS = 16
"""Most pairs of a question in a row."""


@dataclass(frozen=True)
class Piece:
    """A row of pairs with their record numbers and digests, and the numbers of unusable records."""

    batch: PairBatch
    records: tuple[int, ...]
    digests: tuple[bytes, ...]
    missing: tuple[int, ...]

    def to(self, *args: Any, **kwargs: Any) -> "Piece":
        """Moves the batch to a device; Lightning calls it."""
        return replace(self, batch=self.batch.to(*args, **kwargs))


class Pieces(Dataset[Piece]):
    """Encodes micro-batches of questions as pieces.

    Args:
        questions: record numbers of the pairs of each question.
        reader: reader of the shards.
        encoder: the model's encoder.
        shared_length: most tokens of a prompt with an answer for which pairs of one question share what they have in
            common; see `collate`.
    """

    def __init__(
        self, questions: list[np.ndarray], reader: ShardReader, encoder: PairEncoder, shared_length: int | None
    ) -> None:
        self.questions, self.reader, self.encoder, self.shared_length = questions, reader, encoder, shared_length

    def __getitem__(self, numbers: list[int]) -> Piece:
        pairs, records, missing, reasons = [], [], [], []
        for question in (self.questions[number] for number in numbers):
            prompt = None
            for number in question.tolist():
                try:
                    record = self.reader.read(number)
                    if record.augment:
                        raise BadRecord(
                            "its data set has data_augment, whose random pixels cannot be cached; make the shards "
                            "without it"
                        )
                    prompt = prompt or self.encoder.encode_prompt(record)
                    pairs.append(self.encoder.encode_answers(record, prompt))
                    records.append(number)
                except BadRecord as error:
                    missing.append(number)
                    reasons.append(SetAside(self.reader.index.where(number), str(error)))
        batch = collate(pairs, self.encoder.tile_size, set_aside=tuple(reasons), shared_length=self.shared_length)
        return Piece(batch, tuple(records), tuple(map(pair_digest, pairs)), tuple(missing))


class ReferencePass(L.LightningModule):
    """Writes each record's log-probs into the cache folder as soon as they are computed.

    Args:
        model: checkpoint folder of the reference.
        index: index of the shards.
        encoder: the model's encoder, with the limits that training will have.
        meta: the cache's identity, from `cache_meta`.
        quarantine: stops at unusable records, or leaves them without log-probs.
        micro_batch_size: questions that a device computes at once.
        num_workers: loader processes of each device.
        attention: attention backend of the language model.
    """

    def __init__(
        self,
        model: str,
        index: ShardIndex,
        encoder: PairEncoder,
        meta: dict[str, Any],
        quarantine: Quarantine,
        micro_batch_size: int,
        num_workers: int,
        attention: Backend,
    ) -> None:
        super().__init__()
        self.model_folder, self.index, self.encoder, self.quarantine = model, index, encoder, quarantine
        self.micro_batch_size, self.num_workers, self.attention = micro_batch_size, num_workers, attention
        self.reference: PairForward | None = None
        self.folder = cache_folder(index.folder, meta)

    def configure_model(self) -> None:
        if self.reference is None:
            self.reference = PairForward(freeze(load_model(self.model_folder)), self.attention)

    def predict_dataloader(self) -> DataLoader[Piece]:
        self.quarantine.open(self.folder, self.global_rank, self.trainer.world_size)
        done = finished_rows(self.folder)["record"].astype(np.int64)
        to_do = np.setdiff1d(np.arange(len(self.index)), done)
        questions = self._questions(to_do)
        # The broadcast also waits until every rank has looked, before any rank writes.
        run = self.trainer.strategy.broadcast(len(list(self.folder.glob("part-*.bin"))))
        self._part = (self.folder / f"part-{run}-{self.global_rank}.bin").open("ab", buffering=0)
        return DataLoader(
            Pieces(
                questions,
                ShardReader(self.index),
                self.encoder,
                rope_limit(read_config(self.model_folder).get_text_config()),
            ),
            batch_size=None,
            sampler=Slices(np.arange(len(questions)), self.micro_batch_size, self.global_rank, self.trainer.world_size),
            num_workers=self.num_workers,
            worker_init_fn=ignore_signals,
        )

    def _questions(self, records: np.ndarray) -> list[np.ndarray]:
        """Divides pairs into those of one question; very many of one question are several parts."""
        if not len(records):
            return []
        question_of = np.asarray(self.index.records["first_member"])[records]
        parts = np.split(records, np.flatnonzero(np.diff(question_of)) + 1)
        return [part[start : start + MOST_PAIRS] for part in parts for start in range(0, len(part), MOST_PAIRS)]

    def predict_step(self, piece: Piece, batch_idx: int) -> None:
        assert self.reference is not None
        self.quarantine.take(piece.batch)
        logps, _ = self.reference(piece.batch)
        real = len(piece.records)
        missing = () if self.quarantine.strict else piece.missing
        rows = np.zeros(real + len(missing), ROW)
        rows["record"] = [*piece.records, *missing]
        rows["chosen"][:real], rows["rejected"][:real] = (
            side[:real].cpu().numpy() for side in (logps.chosen, logps.rejected)
        )
        rows["digest"] = [*piece.digests, *[MISSING] * len(missing)]
        self._part.write(part_bytes(rows))

    def on_predict_epoch_end(self) -> None:
        self._part.close()
        self.quarantine.stop_together()


def run_reference_pass(
    folder: Path,
    model: str,
    encoder: PairEncoder,
    trainer_options: dict[str, Any],
    strict: bool,
    micro_batch_size: int,
    num_workers: int,
    attention: Backend,
) -> tuple[Path, int, int]:
    """Computes missing log-probs and finishes the cache.

    Returns:
        The cache's folder, the number of records, and the number of records without log-probs.

    Raises:
        InputError: a record cannot be used (strict).
    """
    index = open_index(folder)
    try:
        trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, **trainer_options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(" ".join(str(error).split())) from None
    meta = cache_meta(index, encoder, weights_fingerprint(native_folder(model)), str(trainer.precision))
    target = cache_folder(index.folder, meta)
    if not (target / "meta.json").is_file():
        target.mkdir(exist_ok=True)
        quarantine = Quarantine(strict, "--on_bad quarantine")
        with run_whole(trainer):
            trainer.predict(
                ReferencePass(
                    model,
                    index,
                    encoder=encoder,
                    meta=meta,
                    quarantine=quarantine,
                    micro_batch_size=micro_batch_size,
                    num_workers=num_workers,
                    attention=attention,
                ),
                return_predictions=False,
            )
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                finish_cache(target, meta, len(index))
            trainer.strategy.barrier()
    rows = open_cache(index, meta).rows
    return target, len(index), int((rows["digest"] == MISSING).sum())
