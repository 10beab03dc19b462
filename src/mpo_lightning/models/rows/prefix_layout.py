"""Where the segments of a row [prompt | answer | answer | ...] lie, question after question, and which keys each sees.

The prompt and its first answer are one sequence of queries; every further answer is another, behind the same prompt.

Shape letters: A answers.
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
        lengths: tokens of the prompt and of each answer, for each question in the order of the row.
        backend: attention backend.
        device: device of the tables.
        dtype: dtype in which the kernels compute; sdpa follows autocast by itself.
    """

    lengths: tuple[tuple[int, ...], ...]
    backend: Backend
    device: torch.device
    dtype: torch.dtype

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, a prompt with one answer."""
        return max(prompt + max(answers) for prompt, *answers in self.lengths)

    @cached_property
    def keys(self) -> Tensor:
        """int64 [keys]: row positions of the keys of each answer: its prompt, then itself; answer after answer."""
        pieces, start = [], 0
        for prompt, *answers in self.lengths:
            end = start + prompt
            for answer in answers:
                pieces += [torch.arange(start, start + prompt), torch.arange(end, end + answer)]
                end += answer
            start = end
        return torch.cat(pieces).to(self.device)

    @cached_property
    def query_starts(self) -> Tensor:
        """int32 [A + 1]: where the queries of each sequence start in the row."""
        return self._starts([part for prompt, first, *others in self.lengths for part in (prompt + first, *others)])

    @cached_property
    def key_starts(self) -> Tensor:
        """int32 [A + 1]: where the keys of each sequence start in `keys`."""
        return self._starts([prompt + answer for prompt, *answers in self.lengths for answer in answers])

    def _starts(self, lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths]).cumsum(0).to(self.device, torch.int32)

    def mask(self, queries: int, keys: int, window: int | None = None, sink: bool = False) -> Tensor:
        """Returns which keys the last tokens of a sequence see; made once a row for each shape.

        Args:
            queries: the tokens that look.
            keys: the tokens that are looked at; the last `queries` of them are the queries' own.
            window: a token sees as many tokens, itself included; None is all before it.
            sink: whether one more key, which all see, comes first.

        Returns:
            bool [queries, keys], with one more key for a sink.
        """
        shape = (queries, keys, window, sink)
        if shape not in self._masks:
            seen = torch.ones(queries, keys, dtype=torch.bool, device=self.device).tril(keys - queries)
            if window is not None:
                seen = seen.triu(keys - queries - window + 1)
            self._masks[shape] = torch.cat([seen.new_ones(queries, 1), seen], dim=1) if sink else seen
        return self._masks[shape]

    @cached_property
    def _masks(self) -> dict[tuple[int, int, int | None, bool], Tensor]:
        return {}
