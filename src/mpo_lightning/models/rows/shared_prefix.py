"""Attention over rows of [prompt | answer | answer | ...], question after question, without padding.

All answers to a question follow the same prompt, so the prompt is computed once. Each answer sees the prompt and
itself, and questions do not see each other. Variable-length kernels express this as sequences with fewer queries than
keys:

    queries  prompt+first    against keys  prompt+first      causal
    queries  answer          against keys  prompt+answer     causal, aligned at the end

The function is registered with transformers' AttentionInterface and selected by the language model's config alone, so
the layers stay transformers' own. Backends: `flash-attn` (its variable-length kernel), `varlen` (torch's own), `sdpa`
(one call per segment; works on any device, and is the one that tests compare with). A pair costs (n+c)^2/2 + r (n +
r/2) score products instead of (n+c)^2/2 + (n+r)^2/2.

GPT-OSS has attention sinks, one number a head that takes part in the softmax and has no value, and layers with a
sliding window. A sink is written as one more key that every query sees: a column of ones for the keys, and the sink for
the queries, in one more dimension. The kernels cannot combine that with a window, so such layers take `sdpa`.

Shape letters: H query heads, K key-value heads, T tokens of the row, D head size, P pairs.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from mpo_lightning.errors import InputError
from mpo_lightning.models.rows.prefix_layout import Backend, PrefixLayout

NAME = "mpo_shared_prefix"
"""Name of the function in transformers' AttentionInterface."""

MODULES = {"flash-attn": "flash_attn", "varlen": "torch.nn.attention.varlen"}
"""The module that provides each kernel."""

KERNEL_DEVICES = ("cuda",)

BLOCK = 256
"""Queries of one masked call of sdpa, which computes all scores of a call. With short calls a long answer costs its
triangle, and a layer with a window its band."""


def backend_for(model: nn.Module, backend: Backend) -> Backend:
    """Returns the backend for a model: "sdpa" for one with attention sinks, else the one asked for.

    Raises:
        InputError: another backend is named for a model with sinks.
    """
    if not any(hasattr(module, "sinks") for module in model.modules()):
        return backend
    if backend not in ("auto", "sdpa"):
        raise InputError(
            f"the attention backend '{backend}' has no attention sinks, which this language model needs; set it to "
            "'sdpa' or 'auto'"
        )
    return "sdpa"


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
    s_aux: Tensor | None = None,
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
        s_aux: sinks [H] of the layer, if it has them.
        prefix_layout: layout of the row.

    Returns:
        [1, T, H, D], and None for the weights.
    """
    assert prefix_layout is not None and attention_mask is None and query.shape[0] == 1
    window = sliding_window if sliding_window is not None and prefix_layout.longest > sliding_window else None
    options: dict[str, Any] = {"scaling": scaling, "dropout": dropout}
    if window is not None or s_aux is not None:
        output = _sdpa(query[0], key[0], value[0], prefix_layout, window=window, sinks=s_aux, **options)
    else:
        output = BACKENDS[prefix_layout.backend](query[0], key[0], value[0], prefix_layout, **options)
    return output.unsqueeze(0), None


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PrefixLayout,
    scaling: float | None,
    dropout: float,
    window: int | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Takes [H, T, D] and [K, T, D] and returns [T, H, D]; makes one call per answer, or block of a long one."""
    size = query.shape[-1]
    scale = size**-0.5 if scaling is None else scaling
    spare = 0
    leads: tuple[list[Tensor], list[Tensor]] = [], []
    if sinks is not None:
        # One more dimension holds the sinks; kernels want a multiple of eight.
        spare = 8 - size % 8
        column = (sinks / scale).to(query.dtype).view(-1, 1, 1).expand(-1, query.shape[1], 1)
        query = torch.cat([query, column, query.new_zeros(*query.shape[:2], spare - 1)], dim=-1)
        key, value = (torch.nn.functional.pad(part, (0, spare)) for part in (key, value))
        one = key.new_zeros(len(key), 1, size + spare).index_fill(2, torch.tensor([size], device=key.device), 1)
        leads = [one], [torch.zeros_like(one)]
    options: dict[str, Any] = {"scale": scale, "dropout_p": dropout}

    def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        grouped = len(queries) != len(keys)
        parts = queries[None], keys[None], values[None]
        return scaled_dot_product_attention(
            *parts, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped, **options
        )

    def attend_in_blocks(prompt: slice, own: slice) -> list[Tensor]:
        """The tokens of `own` see `prompt` and themselves. Keys and values are joined once; a block of queries takes
        those that some of its tokens see.
        """
        before = prompt.stop - prompt.start
        keys, values = (
            torch.cat([*lead, part[:, prompt], part[:, own]], dim=1)
            for lead, part in zip(leads, (key, value), strict=True)
        )
        if query.is_cuda:
            # With a mask and grouped heads, CUDA has the kernel alone that stores all scores.
            keys, values = (part.repeat_interleave(len(query) // len(part), dim=0) for part in (keys, values))
        outputs, sink = [], len(leads[0])
        for start in range(0, own.stop - own.start, BLOCK):
            end = min(start + BLOCK, own.stop - own.start)
            hidden = 0 if window is None else max(0, before + start + 1 - window)
            last = sink + before + end
            seen = [part[:, hidden:last] for part in (keys, values)]
            if sink and hidden:
                ends = [part[:, sink + hidden : last] for part in (keys, values)]
                seen = [torch.cat([part[:, :1], rest], dim=1) for part, rest in zip((keys, values), ends, strict=True)]
            mask = layout.mask(end - start, before + end - hidden, window, sink > 0)
            outputs.append(attend(query[:, own.start + start : own.start + end], seen[0], seen[1], mask))
        return outputs

    pieces, start = [], 0
    for prompt, *answers in layout.lengths:
        shared, end = slice(start, start + prompt), start + prompt + answers[0]
        whole = slice(start, end)
        if window is None and sinks is None:
            pieces.append(attend(query[:, whole], key[:, whole], value[:, whole], None))
        else:
            pieces += attend_in_blocks(slice(start, start), whole)
        for answer in answers[1:]:
            pieces += attend_in_blocks(shared, slice(end, end + answer))
            end += answer
        start = end
    output = torch.cat(pieces, dim=2)[0].transpose(0, 1)
    return output[..., :size] if spare else output


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
