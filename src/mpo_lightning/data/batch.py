"""Collates encoded pairs into one row without padding: [prompt | chosen | rejected], pair after pair.

Images and prompt are encoded once; both answers follow in the same row. The positions of rejected restart where the
prompt ends.

Shape letters: P pairs, T tokens of the row, R response tokens, N tiles, S tile side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class SetAside:
    """A skipped record: where it is, and why. It is fatal if the other records would fail too."""

    where: str
    reason: str
    fatal: bool = False


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch as one row.

    A micro-batch without pairs contains one blank pair of weight 0, so every rank runs the same forward passes.

    Attributes:
        input_ids: int64 [T].
        position_ids: int64 [T], from 0 in each pair; rejected starts at the same position as chosen.
        lengths: token counts of prompt, chosen and rejected of each pair.
        predictors: int64 [R], places in the row whose hidden state predicts a trained response token; the prompt's last
            token predicts the first token of both answers.
        targets: int64 [R], the trained response tokens, pair after pair, chosen first.
        answers: int64 [R], the answer of each response token: p for pair p's chosen, P + p for its rejected.
        tiles: uint8 [N, 3, S, S], tiles of all pairs, in the order of their image tokens.
        weights: float64 [P], 1 for a pair and 0 for the blank one.
        keys: P record keys; "" for the blank pair.
        step_pairs: number of pairs in the whole global step.
        last_of_step: whether the optimizer steps after this micro-batch.
        cut_answers: number of answers cut to max_length.
        set_aside: skipped records of this micro-batch.
        tile_counts: number of tiles of each pair.
        seeds: seed of each pair's occurrence, for randomness inside the model; empty in evaluation.
        reference: float64 [P, 2], cached reference log-probs of chosen and rejected, or None.
        places: shard of each real pair, with its folder; empty if unknown.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[tuple[int, int, int], ...]
    predictors: Tensor
    targets: Tensor
    answers: Tensor
    tiles: Tensor
    weights: Tensor
    keys: tuple[str, ...]
    step_pairs: int
    last_of_step: bool
    cut_answers: int = 0
    set_aside: tuple[SetAside, ...] = ()
    tile_counts: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    reference: Tensor | None = None
    places: tuple[str, ...] = ()

    @property
    def pairs(self) -> int:
        """Number of pairs P, including the blank one."""
        return len(self.lengths)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Moves the batch to a device; Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PairBatch":
        """Copies the batch to pinned memory; the DataLoader calls it."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> "PairBatch":
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: function(value) for name, value in tensors.items() if isinstance(value, Tensor)})


def collate(
    pairs: Sequence[EncodedPair],
    tile_size: int,
    step_pairs: int | None = None,
    last_of_step: bool = True,
    set_aside: tuple[SetAside, ...] = (),
    reference: Sequence[tuple[float, float]] | None = None,
    seeds: Sequence[int] = (),
    places: Sequence[str] = (),
) -> PairBatch:
    """Collates pairs into one row.

    Args:
        pairs: pairs of the micro-batch; may be empty.
        tile_size: side of a tile in pixels.
        step_pairs: number of pairs in the whole global step; None means these pairs.
        last_of_step: whether the optimizer steps after this micro-batch.
        set_aside: skipped records.
        reference: cached reference log-probs of each pair.
        seeds: seed of each pair's occurrence.
        places: shard of each pair.
    """
    real = len(pairs)
    if not pairs:
        token = torch.zeros(1, dtype=torch.int64)
        pairs = [EncodedPair("", token, token, token, tiles=torch.empty(0, 3, tile_size, tile_size, dtype=torch.uint8))]
    lengths = tuple((len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs)
    positions, predictors, answers = [], [], []
    start = 0
    for number, (prompt, chosen, rejected) in enumerate(lengths):
        positions += [torch.arange(prompt + chosen), torch.arange(prompt, prompt + rejected)]
        last = start + prompt - 1  # the prompt's last token
        # The place before each answer token predicts it, except that the prompt's last token predicts rejected's first.
        ahead_of_rejected = torch.arange(last + chosen, last + chosen + rejected)
        ahead_of_rejected[:1] = last
        skipped, skipped_of_rejected = pairs[number].untrained
        predictors += [torch.arange(last + skipped, last + chosen), ahead_of_rejected[skipped_of_rejected:]]
        answers += [torch.full((chosen - skipped,), number)]
        answers += [torch.full((rejected - skipped_of_rejected,), len(pairs) + number)]
        start += prompt + chosen + rejected
    return PairBatch(
        input_ids=torch.cat([part for pair in pairs for part in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)]),
        position_ids=torch.cat(positions),
        lengths=lengths,
        predictors=torch.cat(predictors),
        targets=torch.cat(
            [
                part
                for pair in pairs
                for part in (pair.chosen_ids[pair.untrained[0] :], pair.rejected_ids[pair.untrained[1] :])
            ]
        ),
        answers=torch.cat(answers),
        tiles=torch.cat([pair.tiles for pair in pairs]),
        weights=torch.tensor([1.0] * real or [0.0], dtype=torch.float64),
        keys=tuple(pair.key for pair in pairs),
        step_pairs=real if step_pairs is None else step_pairs,
        last_of_step=last_of_step,
        cut_answers=sum(pair.cut for pair in pairs),
        set_aside=set_aside,
        tile_counts=tuple(len(pair.tiles) for pair in pairs),
        seeds=tuple(seeds),
        places=tuple(places),
        reference=None if reference is None else torch.tensor(reference or [(0.0, 0.0)], dtype=torch.float64),
    )


def refuse_untrainable(batch: PairBatch) -> None:
    """Refuses a pair that teaches nothing, whatever made the batch. Call it while the batch is on the CPU.

    Raises:
        InputError: an answer without a trained token, or two answers with the same tokens.
    """
    for number, (key, weight) in enumerate(zip(batch.keys, batch.weights.tolist(), strict=True)):
        chosen, rejected = (batch.targets[batch.answers == one] for one in (number, batch.pairs + number))
        for tokens, side in ((chosen, "chosen"), (rejected, "rejected")):
            if weight and not len(tokens):
                raise InputError(
                    f"record '{key}': its {side} answer has no trained token; check max_length and the data"
                )
        if weight and torch.equal(chosen, rejected):
            raise InputError(f"record '{key}': chosen and rejected are the same tokens; check the data")
