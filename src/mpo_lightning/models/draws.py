"""Drawing tokens so that an answer depends on its own prompt and number alone, not on the batch, the devices or what
came before.

Each answer has a generator of its own, seeded by (seed, number of the answer); one uniform number a token picks the
token whose share of the cumulated probabilities it falls in (inversion). The noise is the same on every kind of device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from mpo_lightning.data.records import RESERVED_MARKS
from mpo_lightning.models.sampling import Sampling

BLOCK = 64
"""Numbers that a generator gives at once."""


class Draws(LogitsProcessor):
    """Leaves each row of logits one token: the one drawn. Greedy search then takes it.

    Args:
        sampling: how.
        numbers: of the answers, one a row; they and the seed decide every draw.
        forbidden: token ids that are never drawn.
    """

    def __init__(self, sampling: Sampling, numbers: Sequence[int], forbidden: Sequence[int] = ()) -> None:
        self.sampling, self.forbidden = sampling, list(forbidden)
        self.generators = [torch.Generator().manual_seed(mixed_seed(sampling.seed, number)) for number in numbers]
        self._uniform = torch.empty(len(self.generators), 0, dtype=torch.float64)
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """float [B, V] logits in, the same with all but the drawn token at minus infinity out."""
        logits = scores.float() / self.sampling.temperature
        logits[:, self.forbidden] = -torch.inf
        # Only the likeliest are looked at, in their order: a vocabulary has 100,000 tokens, of which 50 may be drawn.
        count = self.sampling.top_k or logits.shape[-1]
        likeliest, tokens = logits.topk(min(count, logits.shape[-1]))
        shares = likeliest.double().softmax(-1)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= self.sampling.top_p, 0.0).cumsum(-1)
        # The total is 1 to rounding only; a draw stays below it.
        uniform = self._draw().to(shares.device) * shares[:, -1]
        places = torch.searchsorted(shares, uniform[:, None], right=True).clamp(max=shares.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens.gather(1, places), 0.0)

    def _draw(self) -> Tensor:
        """float64 [B], the next number of each generator; they are asked for blocks of numbers."""
        place = self._step % BLOCK
        if place == 0:
            self._uniform = torch.stack(
                [torch.rand(BLOCK, generator=one, dtype=torch.float64) for one in self.generators]
            )
        self._step += 1
        return self._uniform[:, place]


def forbidden_ids(tokenizer: PreTrainedTokenizerBase, end: str, vocabulary: int) -> list[int]:
    """Tokens that an answer may not hold: special ones but for its end, the image token among them, and places of the
    vocabulary without a token.

    Args:
        tokenizer: the model's.
        end: the end token's text.
        vocabulary: logits that the model gives.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} | set(
        tokenizer.all_special_ids
    )
    vocabulary_of = tokenizer.get_vocab()
    special |= {vocabulary_of[mark] for mark in RESERVED_MARKS if mark in vocabulary_of}
    special |= set(range(max(vocabulary_of.values()) + 1, vocabulary))
    return sorted(special - {vocabulary_of[end]})


def mixed_seed(seed: int, number: int) -> int:
    """One 63-bit seed of two numbers; neighbours share nothing (SplitMix64's finalizer)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
