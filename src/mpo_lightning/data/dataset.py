"""The torch Dataset: maps a micro-batch of the plan to a PairBatch.

A record that cannot be used does not raise in a worker process, where a traceback would bury its message. It is
reported in the batch, and the training loop stops or counts it. It is never replaced: its place in the global step
stays empty.
"""

from torch.utils.data import Dataset

from mpo_lightning.data.batch import PairBatch, SetAside, collate
from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.plan import MicroBatch
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.reference_cache import ReferenceCache, StaleCache
from mpo_lightning.data.shards.remote import LostShard
from mpo_lightning.errors import BadRecord


class PairDataset(Dataset[PairBatch]):
    """Reads and encodes micro-batches.

    Args:
        reader: reader of the shards.
        encoder: encoder of the model.
        seed: seed of random augmentation.
        augment: whether pairs are for training: `data_augment` records are degraded, and drop path gets its seeds.
        cache: cached reference log-probs to add to each pair.
    """

    def __init__(
        self,
        reader: ShardReader,
        encoder: PairEncoder,
        seed: int = 0,
        augment: bool = False,
        cache: ReferenceCache | None = None,
    ) -> None:
        self.reader = reader
        self.encoder = encoder
        self.seed = seed
        self.augment = augment
        self.cache = cache
        self._lost: LostShard | None = None

    def __getitem__(self, micro_batch: MicroBatch) -> PairBatch:
        self.reader.ahead(micro_batch.ahead)
        index = self.reader.index
        pairs, seeds, places, reference, set_aside = [], [], [], [], []
        for occurrence in micro_batch.occurrences:
            try:
                if self._lost is not None:
                    raise self._lost  # it stops the run, so do not wait for another shard
                record = self.reader.read(occurrence.record)
                pair = self.encoder.encode(record, occurrence if self.augment else None, self.seed)
                if self.cache is not None:
                    reference.append(self.cache.logps(occurrence.record, pair))
                pairs.append(pair)
                seeds.append(occurrence.seed(self.seed))
                places.append(index.place(int(index.records[occurrence.record]["shard"])))
            except BadRecord as error:
                self._lost = error if isinstance(error, LostShard) else self._lost
                where = index.where(occurrence.record)
                set_aside.append(SetAside(where, str(error), fatal=isinstance(error, (StaleCache, LostShard))))
        return collate(
            pairs,
            tile_size=self.encoder.tile_size,
            step_pairs=micro_batch.step_pairs,
            last_of_step=micro_batch.last_of_step,
            set_aside=tuple(set_aside),
            seeds=seeds if self.augment else (),
            places=places,
            reference=None if self.cache is None else reference,
        )
