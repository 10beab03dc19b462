"""Attention over rows of [prompt | chosen | rejected], pair after pair, without padding.

Both responses of a pair follow the same prompt, so the prompt is computed once. Chosen sees prompt and chosen, rejected
sees prompt and rejected, and pairs do not see each other. Variable-length kernels express this as sequences with fewer
queries than keys:

    queries  prompt+chosen   against keys  prompt+chosen     causal
    queries  rejected        against keys  prompt+rejected   causal, aligned at the end

The function is registered with transformers' AttentionInterface and selected by the language model's config alone, so
the layers stay transformers' own. Backends: `flash-attn` (its variable-length kernel), `varlen` (torch's own), `sdpa`
(one call per segment; works on any device, and is the one that tests compare with). A pair costs (n+c)^2/2 + r (n +
r/2) score products instead of (n+c)^2/2 + (n+r)^2/2.

Shape letters: H query heads, K key-value heads, T tokens of the row, D head size, P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from mpo_lightning.errors import InputError

NAME = "mpo_shared_prefix"
"""Name of the function in transformers' AttentionInterface."""

Backend = Literal["auto", "flash-attn", "varlen", "sdpa"]

MODULES = {"flash-attn": "flash_attn", "varlen": "torch.nn.attention.varlen"}
"""The module that provides each kernel."""

KERNEL_DEVICES = ("cuda",)


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

    @cached_property
    def rejected_masks(self) -> tuple[Tensor, ...]:
        """bool [rejected, prompt + rejected] for each pair, True where a rejected token sees a key."""
        return tuple(
            torch.ones(rejected, prompt + rejected, dtype=torch.bool, device=self.device).tril(prompt)
            for prompt, _, rejected in self.lengths
        )


def choose_backend(backend: Backend, device: torch.device, dtype: torch.dtype) -> Backend:
    """Returns the named backend, or for "auto" the fastest that device and dtype allow.

    Raises:
        InputError: the named backend needs a CUDA device and 16-bit arithmetic, or is not installed.
    """
    low = device.type in KERNEL_DEVICES and dtype in (torch.float16, torch.bfloat16)
    for name in ("flash-attn", "varlen") if backend == "auto" else (backend,):
        if name == "sdpa" or (low and find_spec(MODULES[name]) is not None and sees_the_prompt(name, device, dtype)):
            return cast(Backend, name)
    if backend == "auto":
        return "sdpa"
    needs = (
        "a CUDA device and bf16 or fp16 arithmetic"
        if not low
        else f"a {MODULES[backend]} that aligns causal masks at the end"
    )
    raise InputError(f"the attention backend '{backend}' needs {needs}; 'auto' takes the fastest that works here")


@cache
def sees_the_prompt(backend: Backend, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel with fewer queries than keys aligns its causal mask at the end; tried once on a small row.

    A mask aligned at the start would hide most of the prompt from every rejected response, and no loss curve would show
    it.
    """
    generator = torch.Generator().manual_seed(0)
    layout = PrefixLayout(((48, 16, 24), (40, 8, 33)), backend, device, dtype)
    query, key, value = (
        torch.randn(heads, sum(map(sum, layout.lengths)), 64, generator=generator).to(device, dtype)
        for heads in (4, 2, 2)
    )
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            ours = BACKENDS[backend](query, key, value, layout, scaling=None, dropout=0.0)
        except (RuntimeError, TypeError, ImportError):
            return False
        truth = BACKENDS["sdpa"](query, key, value, layout, scaling=None, dropout=0.0)
    return bool((ours.float() - truth.float()).abs().max() < 0.05)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    prefix_layout: PrefixLayout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Computes one layer's attention over a row; transformers calls it.

    Args:
        module: the attention layer.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: must be None.
        scaling: scale of the scores; None is 1 / sqrt(D).
        dropout: dropout probability of the attention weights.
        sliding_window: sliding window of the layer in tokens, if it has one.
        prefix_layout: layout of the row.

    Returns:
        [1, T, H, D], and None for the weights.

    Raises:
        InputError: the layer's sliding window is shorter than a sequence.
    """
    assert prefix_layout is not None and attention_mask is None and query.shape[0] == 1
    if sliding_window is not None and prefix_layout.longest > sliding_window:
        raise InputError(
            f"a sequence has {prefix_layout.longest} tokens but the model has a sliding window of {sliding_window}; "
            "lower data.max_length to the window"
        )
    output = BACKENDS[prefix_layout.backend](
        query[0], key[0], value[0], prefix_layout, scaling=scaling, dropout=dropout
    )
    return output.unsqueeze(0), None


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scaling: float | None, dropout: float
) -> Tensor:
    """Takes [H, T, D] and [K, T, D] and returns [T, H, D]; makes two calls per pair."""
    options: dict[str, Any] = {"scale": scaling, "dropout_p": dropout, "enable_gqa": len(query) != len(key)}
    pieces, start = [], 0
    for (prompt, chosen, rejected), mask in zip(layout.lengths, layout.rejected_masks, strict=True):
        own, end = start + prompt + chosen, start + prompt + chosen + rejected
        first = slice(start, own)
        pieces.append(
            scaled_dot_product_attention(
                query[None, :, first], key[None, :, first], value[None, :, first], is_causal=True, **options
            )
        )
        keys, values = (
            torch.cat([part[None, :, start : start + prompt], part[None, :, own:end]], dim=2) for part in (key, value)
        )
        pieces.append(scaled_dot_product_attention(query[None, :, own:end], keys, values, attn_mask=mask, **options))
        start = end
    return torch.cat(pieces, dim=2)[0].transpose(0, 1)


def _gathered(query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Returns queries [T, H, D], and keys and values [keys, K, D] in the order of `layout.keys`, in the layout's dtype.

    Under autocast, rotary embeddings make queries and keys float32 while values are in 16 bits; kernels need one dtype.
    """
    query, key, value = (part.transpose(0, 1).to(layout.dtype) for part in (query, key, value))
    return query, key.index_select(0, layout.keys), value.index_select(0, layout.keys)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scaling: float | None, dropout: float
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    query, key, value = _gathered(query, key, value, layout)
    # flash-attn aligns its causal mask at the end of keys and queries since version 2.1.
    return flash_attn_varlen_func(
        query,
        key,
        value,
        layout.query_starts,
        layout.key_starts,
        layout.longest,
        layout.longest,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=True,
    )


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scaling: float | None, dropout: float
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if dropout:
        raise InputError("torch's variable-length attention has no dropout; set the attention backend to 'sdpa'")
    query, key, value = _gathered(query, key, value, layout)
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0)}
    if query.shape[1] != key.shape[1]:
        options["enable_gqa"] = True
    output: Any = varlen_attn(
        query, key, value, layout.query_starts, layout.key_starts, layout.longest, layout.longest, **options
    )
    return cast(Tensor, output)


BACKENDS: dict[str, Callable[..., Tensor]] = {"flash-attn": _flash, "varlen": _varlen, "sdpa": _sdpa}

AttentionInterface.register(NAME, shared_prefix_attention)
