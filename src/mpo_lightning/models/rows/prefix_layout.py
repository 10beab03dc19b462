"""Where the segments of a row [prompt | chosen | rejected] lie, pair after pair, and which keys each of them sees.

Shape letters: P pairs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "flash-attn", "varlen", "sdpa"]


@dataclass(frozen=True)
class PrefixLayout:
    """Positions of a row's segments; passed to every layer, with tables computed once per row.

    Attributes:
        lengths: tokens of prompt, chosen and rejected for each pair, in the order of the row.
        backend: attention backend.
        device: device of the tables.
        dtype: dtype in which the kernels compute; sdpa follows autocast by itself.
    """

    lengths: tuple[tuple[int, int, int], ...]
    backend: Backend
    device: torch.device
    dtype: torch.dtype

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, a prompt with one response."""
        return max(prompt + max(chosen, rejected) for prompt, chosen, rejected in self.lengths)

    @cached_property
    def keys(self) -> Tensor:
        """int64 [keys]: row positions of the keys of prompt+chosen, then prompt+rejected, pair after pair."""
        pieces, start = [], 0
        for prompt, chosen, rejected in self.lengths:
            own = start + prompt + chosen
            pieces += [torch.arange(start, own), torch.arange(start, start + prompt), torch.arange(own, own + rejected)]
            start = own + rejected
        return torch.cat(pieces).to(self.device)

    @cached_property
    def query_starts(self) -> Tensor:
        """int32 [2P + 1]: where the queries of each sequence start in the row."""
        return self._starts([part for prompt, chosen, rejected in self.lengths for part in (prompt + chosen, rejected)])

    @cached_property
    def key_starts(self) -> Tensor:
        """int32 [2P + 1]: where the keys of each sequence start in `keys`."""
        return self._starts(
            [part for prompt, chosen, rejected in self.lengths for part in (prompt + chosen, prompt + rejected)]
        )

    def _starts(self, lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)

    def masks(self, window: int | None = None, sink: bool = False) -> list[tuple[Tensor | None, Tensor]]:
        """Returns for each pair which keys prompt+chosen and rejected see; made once a row for each kind of layer.

        Args:
            window: a token sees as many tokens, itself included; None is all before it.
            sink: whether one more key, which all see, comes first.

        Returns:
            bool [prompt + chosen, keys], or None where it is plainly causal, and bool [rejected, keys].
        """
        if (found := self._masks.get((window, sink))) is None:
            found = self._masks[window, sink] = [
                (
                    None if window is None and not sink else self._mask(0, prompt + chosen, window, sink),
                    self._mask(prompt, rejected, window, sink),
                )
                for prompt, chosen, rejected in self.lengths
            ]
        return found

    @cached_property
    def _masks(self) -> dict[tuple[int | None, bool], list[tuple[Tensor | None, Tensor]]]:
        return {}

    def _mask(self, before: int, queries: int, window: int | None, sink: bool) -> Tensor:
        """bool [queries, sink + before + queries]: which keys the last `queries` tokens of a sequence see."""
        seen = torch.ones(queries, before + queries, dtype=torch.bool, device=self.device).tril(before)
        if window is not None:
            seen = seen.triu(before - window + 1)
        return torch.cat([seen.new_ones(queries, 1), seen], dim=1) if sink else seen
