"""Token sampling that depends only on a response's prompt and number.

The batch, the devices and earlier responses have no influence. Each response has its own generator, seeded by (seed,
number of the response). Each token takes one uniform number, which picks the token by inverting the cumulative
probabilities. The random numbers are the same on every kind of device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.records import RESERVED_MARKS
from mpo_lightning.models.sampling import Sampling

BLOCK = 64
"""Random numbers drawn from a generator at a time."""


class Draws(LogitsProcessor):
    """Samples one token per row and masks all others, so that greedy search takes it.

    Args:
        sampling: sampling options.
        numbers: number of each row's response; it and the seed decide every random number.
        forbidden: token ids that are never sampled.
    """

    def __init__(self, sampling: Sampling, numbers: Sequence[int], forbidden: Sequence[int] = ()) -> None:
        self.sampling, self.forbidden = sampling, list(forbidden)
        self.generators = [torch.Generator().manual_seed(mixed_seed(sampling.seed, number)) for number in numbers]
        self._uniform = torch.empty(len(self.generators), 0, dtype=torch.float64)
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns float [B, V] logits in which all but the sampled token are minus infinity."""
        logits = scores.float() / self.sampling.temperature
        logits[:, self.forbidden] = -torch.inf
        # Sort only the tokens that may be drawn, such as 50 of a vocabulary of 100,000.
        count = self.sampling.top_k or logits.shape[-1]
        likeliest, tokens = logits.topk(min(count, logits.shape[-1]))
        shares = likeliest.double().softmax(-1)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= self.sampling.top_p, 0.0).cumsum(-1)
        # The total is 1 only up to rounding; scaling by it keeps the draw below it.
        uniform = self._draw().to(shares.device) * shares[:, -1]
        places = torch.searchsorted(shares, uniform[:, None], right=True).clamp(max=shares.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens.gather(1, places), 0.0)

    def _draw(self) -> Tensor:
        """Returns float64 [B], the next number of each generator; generators are read in blocks."""
        place = self._step % BLOCK
        if place == 0:
            self._uniform = torch.stack(
                [torch.rand(BLOCK, generator=one, dtype=torch.float64) for one in self.generators]
            )
        self._step += 1
        return self._uniform[:, place]


def forbidden_ids(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, vocabulary: int) -> list[int]:
    """Returns the token ids that a response may not contain.

    These are special tokens other than those that end a response or stand before every answer, the image token
    included, and ids without a token.

    Args:
        tokenizer: tokenizer of the model.
        template: chat template of the model.
        vocabulary: number of logits of the model.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} | set(
        tokenizer.all_special_ids
    )
    vocabulary_of = tokenizer.get_vocab()
    special |= {vocabulary_of[mark] for mark in RESERVED_MARKS if mark in vocabulary_of}
    special |= set(range(max(vocabulary_of.values()) + 1, vocabulary))
    allowed = {vocabulary_of[end] for end in template.ends}
    allowed |= set(tokenizer(template.answer_prefix, add_special_tokens=False).input_ids)
    # The -hf conversion may add a token beyond the model's table.
    return sorted(number for number in special - allowed if number < vocabulary)


def mixed_seed(seed: int, number: int) -> int:
    """Mixes two numbers into one 63-bit seed; close inputs give unrelated seeds (SplitMix64's finalizer)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
