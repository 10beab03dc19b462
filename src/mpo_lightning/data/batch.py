"""Collates encoded pairs into one row without padding: [prompt | answer | answer | ...], question after question.

Images and prompt are encoded once; the answers follow in the same row, and the positions of each restart where the
prompt ends. A pair is a question with two answers. Pairs with the same prompt and tiles may share them, and share each
answer that several of them have.

Shape letters: P pairs, Q questions, A answers, T tokens of the row, R response tokens, N tiles, S tile side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
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
        position_ids: int64 [T], from 0 in each question; its answers start at the same position.
        lengths: token counts of prompt and of each answer, for each question.
        predictors: int64 [R], places in the row whose hidden state predicts a trained response token; the prompt's last
            token predicts the first token of every answer.
        targets: int64 [R], the trained response tokens, answer after answer.
        answers: int64 [R], the number of each response token's answer, from 0 to A - 1 in the order of the row.
        chosen: int64 [P], the number of each pair's chosen answer.
        rejected: int64 [P], the number of each pair's rejected answer.
        tiles: uint8 [N, 3, S, S], tiles of all questions, in the order of their image tokens.
        weights: float64 [P], 1 for a pair and 0 for the blank one.
        keys: P record keys; "" for the blank pair.
        step_pairs: number of pairs in the whole global step.
        last_of_step: whether the optimizer steps after this micro-batch.
        cut_answers: number of answers cut to max_length.
        set_aside: skipped records of this micro-batch.
        tile_counts: number of tiles of each question.
        seeds: seed of the occurrence of each question's first pair, for randomness inside the model; empty in
            evaluation.
        reference: float64 [P, 2], cached reference log-probs of chosen and rejected, or None.
        places: shard of each real pair, with its folder; empty if unknown.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: tuple[tuple[int, ...], ...]
    predictors: Tensor
    targets: Tensor
    answers: Tensor
    chosen: Tensor
    rejected: Tensor
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
        return len(self.keys)

    @property
    def answer_count(self) -> int:
        """Number of answers A in the row."""
        return sum(len(lengths) - 1 for lengths in self.lengths)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Moves the batch to a device; Lightning calls it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PairBatch":
        """Copies the batch to pinned memory; the DataLoader calls it."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> "PairBatch":
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: function(value) for name, value in tensors.items() if isinstance(value, Tensor)})


@dataclass
class _Question:
    """A prompt with its tiles, the answers behind it, and its pairs as two answers each.

    Attributes:
        number: number of its first pair.
        group: group of its pairs.
        shared: whether it takes further pairs.
        first: its first pair.
        answers: tokens of each answer, and how many at its start are not trained.
        pairs: number of each pair, and its two answers.
    """

    number: int
    group: int
    shared: bool
    first: EncodedPair
    answers: list[tuple[Tensor, int]] = field(default_factory=list)
    pairs: list[tuple[int, int, int]] = field(default_factory=list)

    def has(self, pair: EncodedPair) -> bool:
        ours = self.first
        return (ours.prompt_ids is pair.prompt_ids and ours.tiles is pair.tiles) or (
            torch.equal(ours.prompt_ids, pair.prompt_ids) and torch.equal(ours.tiles, pair.tiles)
        )

    def add(self, number: int, pair: EncodedPair) -> None:
        chosen = self._place(pair.chosen_ids, pair.untrained[0])
        self.pairs.append((number, chosen, self._place(pair.rejected_ids, pair.untrained[1])))

    def _place(self, tokens: Tensor, untrained: int) -> int:
        for place, (other, skipped) in enumerate(self.answers):
            if skipped == untrained and torch.equal(other, tokens):
                return place
        self.answers.append((tokens, untrained))
        return len(self.answers) - 1


def _questions(pairs: Sequence[EncodedPair], groups: Sequence[int], shared_length: int | None) -> list[_Question]:
    """Returns the questions of a row; see `collate`."""
    found: list[_Question] = []
    for number, pair in enumerate(pairs):
        group = groups[number] if groups else 0
        length = len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
        open_to_others = shared_length is None or length <= shared_length
        question = None
        if open_to_others:
            question = next((one for one in found if one.shared and one.group == group and one.has(pair)), None)
        if question is None:
            question = _Question(number, group, open_to_others, pair)
            found.append(question)
        question.add(number, pair)
    return found


def collate(
    pairs: Sequence[EncodedPair],
    tile_size: int,
    step_pairs: int | None = None,
    last_of_step: bool = True,
    set_aside: tuple[SetAside, ...] = (),
    reference: Sequence[tuple[float, float]] | None = None,
    seeds: Sequence[int] = (),
    places: Sequence[str] = (),
    groups: Sequence[int] = (),
    shared_length: int | None = 0,
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
        groups: group of each pair; only pairs of one group share a question. Empty is one group.
        shared_length: pairs with the same prompt and tiles share them if prompt plus answer have at most as many
            tokens; 0 shares nothing, None sets no limit. Beyond `rope_limit` a shared prompt would have another rope.
    """
    real = len(pairs)
    if not pairs:
        token = torch.zeros(1, dtype=torch.int64)
        pairs = [EncodedPair("", token, token, token, tiles=torch.empty(0, 3, tile_size, tile_size, dtype=torch.uint8))]
    questions = _questions(pairs, groups, shared_length)
    ids, positions, predictors, targets, answers = [], [], [], [], []
    chosen, rejected = (torch.zeros(len(pairs), dtype=torch.int64) for _ in range(2))
    start = count = 0
    for question in questions:
        prompt = question.first.prompt_ids
        ids.append(prompt)
        positions.append(torch.arange(len(prompt)))
        for number, one, other in question.pairs:
            chosen[number], rejected[number] = count + one, count + other
        last = start + len(prompt) - 1  # the prompt's last token
        start += len(prompt)
        for tokens, untrained in question.answers:
            ids.append(tokens)
            positions.append(torch.arange(len(prompt), len(prompt) + len(tokens)))
            # The place before each answer token predicts it; the prompt's last token predicts every answer's first.
            ahead = torch.arange(start - 1, start - 1 + len(tokens))
            ahead[:1] = last
            predictors.append(ahead[untrained:])
            targets.append(tokens[untrained:])
            answers.append(torch.full((len(tokens) - untrained,), count))
            start, count = start + len(tokens), count + 1
    return PairBatch(
        input_ids=torch.cat(ids),
        position_ids=torch.cat(positions),
        lengths=tuple(
            (len(question.first.prompt_ids), *(len(tokens) for tokens, _ in question.answers)) for question in questions
        ),
        predictors=torch.cat(predictors),
        targets=torch.cat(targets),
        answers=torch.cat(answers),
        chosen=chosen,
        rejected=rejected,
        tiles=torch.cat([question.first.tiles for question in questions]),
        weights=torch.tensor([1.0] * real or [0.0], dtype=torch.float64),
        keys=tuple(pair.key for pair in pairs),
        step_pairs=real if step_pairs is None else step_pairs,
        last_of_step=last_of_step,
        cut_answers=sum(pair.cut for pair in pairs),
        set_aside=set_aside,
        tile_counts=tuple(len(question.first.tiles) for question in questions),
        seeds=tuple(seeds[question.number] for question in questions) if seeds else (),
        places=tuple(places),
        reference=None if reference is None else torch.tensor(reference or [(0.0, 0.0)], dtype=torch.float64),
    )


def refuse_untrainable(batch: PairBatch) -> None:
    """Refuses a pair that teaches nothing, whatever made the batch. Call it while the batch is on the CPU.

    Raises:
        InputError: an answer without a trained token, or two answers with the same tokens.
    """
    sides = zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)
    for key, weight, numbers in zip(batch.keys, batch.weights.tolist(), sides, strict=True):
        chosen, rejected = (batch.targets[batch.answers == number] for number in numbers)
        for tokens, side in ((chosen, "chosen"), (rejected, "rejected")):
            if weight and not len(tokens):
                raise InputError(
                    f"record '{key}': its {side} answer has no trained token; check max_length and the data"
                )
        if weight and torch.equal(chosen, rejected):
            raise InputError(f"record '{key}': chosen and rejected are the same tokens; check the data")
