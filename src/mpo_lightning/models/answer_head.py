"""The lm_head on response positions only: log-probs of given tokens, without ever keeping [tokens, vocabulary].

With 300 + 350 response tokens and a vocabulary of 150,000 the logits of one pair are 390 MB in float32, and as much again for their
softmax and gradient. Here they are made in chunks and thrown away; the backward pass makes each chunk again (one more matrix product,
a quarter of the head's cost). Where all of a row fits a budget its softmax is kept instead, which saves that product.

It is an nn.Linear whose weight keeps its name, and is called as a module, so that FSDP and other wrappers see it.

Shape letters: R response tokens, E hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 64 * 2**20
"""Bytes of a chunk's logits in float32."""


class AnswerHead(nn.Linear):
    """An lm_head that also scores tokens.

    Args:
        head: the model's own lm_head, without bias.
        keep_bytes: most bytes of softmax that are kept for the backward pass.
    """

    keep_bytes: int

    def __init__(self, head: nn.Linear, keep_bytes: int) -> None:
        assert head.bias is None, "no InternVL language model has a bias in its head"
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight = head.weight
        self.register_parameter("bias", None)
        self.keep_bytes = keep_bytes
        self.train(head.training)

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits [..., V]; or, with targets int64 [R] for hidden [R, E], their log-probs [R] in nats, float32 or better."""
        if targets is None:
            return super().forward(hidden)
        return token_logps(hidden, self.weight, targets, self.keep_bytes)


def token_logps(hidden: Tensor, weight: Tensor, targets: Tensor, keep_bytes: int = 0) -> Tensor:
    """log softmax(hidden @ weight.T) at the targets.

    Args:
        hidden: [R, E].
        weight: [V, E].
        targets: int64 [R].
        keep_bytes: the softmax is kept for the backward pass if it takes no more.

    Returns:
        [R] in float64 if the inputs are, else float32.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    result: Tensor = _TokenLogps.apply(hidden.to(dtype), weight, targets, keep_bytes)
    return result


class _TokenLogps(torch.autograd.Function):
    """d logp / d logits = onehot - softmax, applied chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, keep_bytes: int) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            low = weight.to(hidden.dtype)
            wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
            rows = max(1, CHUNK_BYTES // (4 * len(weight)))
            size = len(hidden) * len(weight) * torch.finfo(wide).bits // 8
            keep = any(ctx.needs_input_grad) and size <= keep_bytes
            logps, normalizers, kept = [], [], []
            for states, tokens in zip(hidden.split(rows), targets.split(rows), strict=True):
                logits = (states @ low.T).to(wide)
                picked = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
                highest = logits.amax(dim=1, keepdim=True)
                # In place: another tensor of this size costs more than the arithmetic.
                shares = logits.sub_(highest).exp_()
                total = shares.sum(dim=1, keepdim=True)
                normalizers.append((highest + total.log()).squeeze(1))
                logps.append(picked - normalizers[-1])
                if keep:
                    kept.append((shares, total))
        ctx.rows, ctx.kept = rows, kept
        ctx.save_for_backward(hidden, weight, targets, torch.cat(normalizers) if normalizers else hidden.new_empty(0, dtype=wide))
        return torch.cat(logps) if logps else hidden.new_empty(0, dtype=wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets, normalizers = ctx.saved_tensors
        low = weight.to(hidden.dtype)
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(hidden) if need_hidden else None
        weight_gradient = torch.zeros_like(weight) if need_weight else None
        for number, start in enumerate(range(0, len(hidden), ctx.rows)):
            part = slice(start, start + ctx.rows)
            states, scale = hidden[part], gradient[part].unsqueeze(1)
            # -softmax * gradient, plus gradient at the target.
            if ctx.kept:
                shares, total = ctx.kept[number]
                share = shares.mul_(-scale / total)
            else:
                share = (states @ low.T).to(normalizers.dtype).sub_(normalizers[part].unsqueeze(1)).exp_().mul_(-scale)
            share.scatter_add_(1, targets[part].unsqueeze(1), scale)
            share = share.to(hidden.dtype)
            if hidden_gradient is not None:
                torch.mm(share, low, out=hidden_gradient[part])
            if weight_gradient is not None and weight_gradient.dtype == share.dtype:
                weight_gradient.addmm_(share.T, states)
            elif weight_gradient is not None:
                weight_gradient += share.T @ states
        # Used up in place; a second backward pass makes them again.
        ctx.kept = []
        return hidden_gradient, weight_gradient, None, None
