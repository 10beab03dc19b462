"""Rotary embeddings that depend only on the pair they belong to.

Dynamic and long rope choose frequencies by the longest position of a call, and dynamic rope remembers the longest call
so far. In a row of several pairs, a pair's log-probs would depend on the other pairs and on earlier steps. Here each
pair gets the frequencies of its own longer side, from a fresh state.
"""

from typing import Any

import torch
from torch import Tensor, nn


class PairRope(nn.Module):
    """Wraps a language model's rotary embedding.

    Args:
        rotary: rotary embedding module of transformers.
    """

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.rotary = rotary
        self.tokens_of_questions: tuple[int, ...] = ()
        """Tokens of each question in the next row; empty if the next call is not a row of pairs."""

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cosines and sines [1, T, D] for positions [1, T]."""
        if not self.tokens_of_questions or self.rotary.rope_type not in ("dynamic", "longrope"):
            return self.rotary(x, position_ids)
        parts = [self._fresh()(x, positions) for positions in position_ids.split(self.tokens_of_questions, dim=1)]
        self._fresh()
        cosines, sines = zip(*parts, strict=True)
        return torch.cat(cosines, dim=1), torch.cat(sines, dim=1)

    def _fresh(self) -> nn.Module:
        forget_lengths(self.rotary)
        return self.rotary


def forget_lengths(rotary: Any) -> None:
    """Resets a dynamic rope, so that earlier calls do not affect the next."""
    if rotary.rope_type == "dynamic":
        rotary.max_seq_len_cached = rotary.original_max_seq_len
        rotary.inv_freq = rotary.original_inv_freq.to(rotary.inv_freq.device)


def rope_limit(text_config: Any) -> int | None:
    """Returns the number of tokens up to which the rope does not depend on the length of a call.

    None if it never does.
    """
    rope = text_config.rope_parameters
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        return None
    return int(rope.get("original_max_position_embeddings") or text_config.max_position_embeddings)
