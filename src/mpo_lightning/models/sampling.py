"""Drawing tokens so that an answer depends on its own prompt and number alone, not on the batch, the devices or what came before.

Each answer has a generator of its own, seeded by (seed, number of the answer); one uniform number a token picks the token whose share of the cumulated
probabilities it falls in (inversion). The noise is the same on every kind of device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; defaults are those of the paper's data pipeline.

    Attributes:
        temperature: divides the logits.
        top_k: likeliest tokens that may be drawn; 0 is all.
        top_p: the likeliest tokens that together have this probability may be drawn.
        seed: of all draws.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"sampling needs a temperature above 0, a top_k of at least 0 and a top_p above 0 and at most 1, got {self.temperature}, {self.top_k} "
                f"and {self.top_p}"
            )


class Draws(LogitsProcessor):
    """Leaves each row of logits one token: the one drawn. Greedy search then takes it.

    Args:
        sampling: how.
        numbers: of the answers, one a row; they and the seed decide every draw.
    """

    def __init__(self, sampling: Sampling, numbers: Sequence[int]) -> None:
        self.sampling = sampling
        self.generators = [torch.Generator().manual_seed(_mixed(sampling.seed, number)) for number in numbers]
        self.limits: list[LogitsProcessor] = [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
        self.limits += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """float [B, V] logits in, the same with all but the drawn token at minus infinity out."""
        logits = scores.float() / self.sampling.temperature
        for limit in self.limits:
            logits = limit(input_ids, logits)
        shares = logits.softmax(-1).double().cumsum(-1)
        uniform = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in self.generators])
        # The total is 1 to rounding only; a draw stays below it.
        drawn = torch.searchsorted(shares, (uniform.to(shares.device) * shares[:, -1])[:, None], right=True).clamp(
            max=logits.shape[-1] - 1
        )
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def _mixed(seed: int, number: int) -> int:
    """One 63-bit seed of two numbers; neighbours share nothing (SplitMix64's finalizer)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
