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
        shared_length: most tokens of a prompt with an answer for which pairs share their question; see `collate`.
    """

    def __init__(
        self,
        reader: ShardReader,
        encoder: PairEncoder,
        seed: int = 0,
        augment: bool = False,
        cache: ReferenceCache | None = None,
        shared_length: int | None = None,
    ) -> None:
        self.reader = reader
        self.encoder = encoder
        self.seed = seed
        self.augment = augment
        self.cache = cache
        self.shared_length = shared_length
        self._lost: LostShard | None = None

    def __getitem__(self, micro_batch: MicroBatch) -> PairBatch:
        self.reader.ahead(micro_batch.ahead)
        index = self.reader.index
        pairs, groups, seeds, places, reference, set_aside = [], [], [], [], [], []
        for group, question in enumerate(micro_batch.questions):
            # What is random is drawn once a question: its pairs share their pixels, and drop path.
            first, prompt = question[0], None
            for occurrence in question:
                try:
                    if self._lost is not None:
                        raise self._lost  # it stops the run, so do not wait for another shard
                    record = self.reader.read(occurrence.record)
                    if prompt is None:
                        prompt = self.encoder.encode_prompt(record, first if self.augment else None, self.seed)
                    pair = self.encoder.encode_answers(record, prompt)
                    if self.cache is not None:
                        reference.append(self.cache.logps(occurrence.record, pair))
                    pairs.append(pair)
                    groups.append(group)
                    seeds.append(first.seed(self.seed))
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
            groups=groups,
            shared_length=self.shared_length,
        )
