"""Several encoded pairs as one padded batch of two sequences a pair.

Shape letters: P pairs, T tokens, N tiles, S tile side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError

IGNORE = -100
"""Label of a position that is not trained."""


@dataclass(frozen=True)
class SetAside:
    """A record that could not be used: where it is, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch. Rows 0..P-1 are prompt + chosen, rows P..2P-1 prompt + rejected, padded on the right.

    A micro-batch without pairs holds one blank pair of weight 0, so that every rank does the same forwards.

    Attributes:
        input_ids: int64 [2P, T].
        attention_mask: int64 [2P, T], 1 for tokens, 0 for padding.
        labels: int64 [2P, T], the token itself on trained answer positions and -100 elsewhere.
        tiles: uint8 [N, 3, S, S] of all pairs, once; both rows of a pair use the same tiles.
        weights: float64 [P], 1 for a pair and 0 for the blank one.
        keys: P record keys, empty for the blank pair.
        step_pairs: pairs in the whole global step.
        last_of_step: whether the optimizer steps after this micro-batch.
        cut_answers: answers that were cut to max_length.
        set_aside: records of this micro-batch that could not be used.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    tiles: Tensor
    weights: Tensor
    keys: tuple[str, ...]
    step_pairs: int
    last_of_step: bool
    cut_answers: int = 0
    set_aside: tuple[SetAside, ...] = ()

    @property
    def pairs(self) -> int:
        """P, the blank pair counted."""
        return len(self.weights)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """The batch on a device; Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PairBatch":
        """The batch in pinned memory; the DataLoader calls it."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> "PairBatch":
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: function(value) for name, value in tensors.items() if isinstance(value, Tensor)})


def collate(
    pairs: Sequence[EncodedPair],
    pad_id: int,
    tile_size: int,
    step_pairs: int | None = None,
    last_of_step: bool = True,
    set_aside: tuple[SetAside, ...] = (),
) -> PairBatch:
    """Pads pairs into one batch.

    Args:
        pairs: the micro-batch; may be empty.
        pad_id: token id on padded positions, where the attention mask is 0 (whatever the id means elsewhere).
        tile_size: side of a tile in pixels.
        step_pairs: pairs in the whole global step; default: these.
        last_of_step: whether the optimizer steps after this micro-batch.
        set_aside: records that were left out.
    """
    real = len(pairs)
    if not pairs:
        token, other = torch.tensor([pad_id]), torch.tensor([pad_id, pad_id])
        pairs = [EncodedPair("", other, token, other, torch.empty(0, 3, tile_size, tile_size, dtype=torch.uint8))]
    answers = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    prompts = [pair.prompt_ids for pair in pairs] * 2
    length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    input_ids = torch.full((2 * len(pairs), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        input_ids[row, :end] = torch.cat([prompt, answer])
        attention_mask[row, :end] = 1
        labels[row, len(prompt) : end] = answer
    return PairBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        tiles=torch.cat([pair.tiles for pair in pairs]),
        weights=torch.tensor([1.0] * real or [0.0], dtype=torch.float64),
        keys=tuple(pair.key for pair in pairs),
        step_pairs=real if step_pairs is None else step_pairs,
        last_of_step=last_of_step,
        cut_answers=sum(pair.cut for pair in pairs),
        set_aside=set_aside,
    )


def refuse_untrainable(batch: PairBatch) -> None:
    """Stops at a pair that would teach nothing, whoever made the batch.

    Raises:
        InputError: an answer without a trained token, or two answers of the same tokens.
    """
    real = batch.weights > 0
    for labels, side in zip(batch.labels.chunk(2), ("chosen", "rejected"), strict=True):
        empty = (labels[:, 1:] == IGNORE).all(dim=1) & real
        if bool(empty.any()):
            key = batch.keys[int(empty.nonzero()[0])]
            raise InputError(f"record '{key}': its {side} answer has no trained token; check max_length and the data")
    chosen, rejected = (batch.input_ids * batch.attention_mask).chunk(2)
    same = (chosen == rejected).all(dim=1) & real
    if bool(same.any()):
        raise InputError(f"record '{batch.keys[int(same.nonzero()[0])]}': chosen and rejected are the same tokens; check the data")
