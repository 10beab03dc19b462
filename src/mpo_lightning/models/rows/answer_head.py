"""The lm_head over response positions only: log-probs of given tokens without storing [tokens, vocabulary] logits.

With 300 + 350 response tokens and a vocabulary of 150,000, the logits of one pair take 390 MB in float32. Their softmax
and gradient take as much again. Here logits are computed in chunks and discarded. The backward pass recomputes each
chunk (one more matrix product, a quarter of the head's cost). If a row's softmax fits a budget, it is kept instead,
which saves that product.

On a CPU the memory of the logits is reused from step to step (`Workspace`), because first touching fresh pages takes
longer than the product that fills them. CUDA's allocator reuses memory by itself.

`AnswerHead` is an nn.Linear whose weight keeps its name. It is called as a module, so that FSDP and other wrappers see
it.

Shape letters: R response tokens, E hidden size, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK_BYTES = 64 * 2**20
"""Size of a chunk's logits in float32, in bytes."""


class Workspace:
    """One spare buffer: a forward pass takes it, and the backward pass gives it back."""

    def __init__(self) -> None:
        self.spare: Tensor | None = None

    def take(self, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Returns at least `size` uninitialized numbers: the spare buffer if it fits, else new memory."""
        spare, self.spare = self.spare, None
        if spare is not None and len(spare) >= size and spare.dtype == dtype and spare.device == device:
            return spare
        # Validation may run first, and training could not write to a tensor made in inference mode.
        with torch.inference_mode(False):
            return torch.empty(size, dtype=dtype, device=device)

    def give(self, buffer: Tensor) -> None:
        """Keeps a buffer for the next forward pass; on devices other than the CPU the allocator takes it back."""
        self.spare = buffer if buffer.device.type == "cpu" else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Workspace":
        return Workspace()

    def __reduce__(self) -> tuple[type["Workspace"], tuple[()]]:
        return Workspace, ()


class AnswerHead(nn.Linear):
    """An lm_head that can also return the log-probs of given tokens.

    Args:
        head: the model's own lm_head, without bias.
        keep_bytes: largest softmax, in bytes, that is kept for the backward pass.
    """

    keep_bytes: int

    def __init__(self, head: nn.Linear, keep_bytes: int) -> None:
        assert head.bias is None, "no InternVL language model has a bias in its head"
        nn.Module.__init__(self)
        self.in_features, self.out_features = head.in_features, head.out_features
        self.weight = head.weight
        self.register_parameter("bias", None)
        self.keep_bytes = keep_bytes
        self.workspace: Workspace = Workspace()
        self.train(head.training)

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """Returns logits [..., V], or the targets' log-probs [R] in nats.

        Args:
            hidden: hidden states [..., E]; [R, E] with targets.
            targets: int64 [R] token ids to score; None returns logits.

        Returns:
            Logits, or log-probs in float64 for float64 inputs, else float32.
        """
        if targets is None:
            return super().forward(hidden)
        return token_logps(hidden, self.weight, targets, self.keep_bytes, workspace=self.workspace)


def token_logps(
    hidden: Tensor, weight: Tensor, targets: Tensor, keep_bytes: int = 0, workspace: Workspace | None = None
) -> Tensor:
    """Computes log softmax(hidden @ weight.T) at the targets.

    Args:
        hidden: hidden states [R, E].
        weight: weight of the head [V, E].
        targets: int64 [R] token ids.
        keep_bytes: largest softmax, in bytes, that is kept for the backward pass.
        workspace: source of the memory for the logits; None allocates it.

    Returns:
        Log-probs [R] in nats, in float64 if the inputs are, else float32.
    """
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    # Decided here: in the autograd function gradients are always off, and needs_input_grad is set in evaluation too.
    if not (torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)):
        keep_bytes = -1
    result: Tensor = _TokenLogps.apply(hidden.to(dtype), weight, targets, keep_bytes, workspace or Workspace())
    return result


def _product(left: Tensor, right: Tensor, out: Tensor, add: bool = False) -> Tensor:
    """Writes left @ right to `out`, or adds it; `out` may have a wider dtype."""
    if left.dtype == out.dtype:
        return out.addmm_(left, right) if add else torch.mm(left, right, out=out)
    return out.add_(left @ right) if add else out.copy_(left @ right)


def _chunks(count: int, vocabulary: int) -> Iterator[slice]:
    rows = max(1, CHUNK_BYTES // (4 * vocabulary))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


class _Logits:
    """Memory for the logits of all rows, or of one chunk at a time.

    Args:
        whole: whether every row has memory of its own; otherwise chunks share it.
    """

    def __init__(
        self, whole: bool, count: int, vocabulary: int, dtype: torch.dtype, workspace: Workspace, device: torch.device
    ):
        self.whole, self.vocabulary, self.workspace = whole, vocabulary, workspace
        rows = count if whole else max((part.stop - part.start for part in _chunks(count, vocabulary)), default=0)
        self.memory = workspace.take(rows * vocabulary, dtype, device)

    def __getitem__(self, part: slice) -> Tensor:
        """Returns the memory [rows, V] of these rows."""
        first, rows = part.start if self.whole else 0, part.stop - part.start
        return self.memory[first * self.vocabulary : (first + rows) * self.vocabulary].view(rows, self.vocabulary)

    def give_back(self) -> None:
        self.workspace.give(self.memory)


class _TokenLogps(torch.autograd.Function):
    """Log-probs with gradient d logp / d logits = onehot - softmax, computed chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, keep_bytes: int, workspace: Workspace
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            low, count, vocabulary = weight.to(hidden.dtype), len(hidden), len(weight)
            wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
            keep = count * vocabulary * torch.finfo(wide).bits // 8 <= keep_bytes
            memory = _Logits(keep, count, vocabulary=vocabulary, dtype=wide, workspace=workspace, device=hidden.device)
            logps, normalizers, totals = hidden.new_empty(3, count, dtype=wide).unbind()
            for part in _chunks(count, vocabulary):
                logits = _product(hidden[part], low.T, memory[part])
                picked = logits.gather(1, targets[part].unsqueeze(1)).squeeze(1)
                highest = logits.amax(dim=1)
                # In place, because another tensor of this size costs more than the arithmetic.
                totals[part] = logits.sub_(highest.unsqueeze(1)).exp_().sum(dim=1)
                normalizers[part] = highest + totals[part].log()
                logps[part] = picked - normalizers[part]
        if not keep:
            memory.give_back()
        ctx.kept, ctx.workspace = memory if keep else None, workspace
        ctx.save_for_backward(hidden, weight, targets, normalizers, totals)
        return logps.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, normalizers, totals = ctx.saved_tensors
        low, count, vocabulary = weight.to(hidden.dtype), len(hidden), len(weight)
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        hidden_gradient = torch.empty_like(hidden) if need_hidden else None
        weight_gradient = torch.empty_like(weight) if need_weight and count else None
        # The kept softmax is overwritten; a second backward pass recomputes it.
        kept, ctx.kept = ctx.kept, None
        memory = kept or _Logits(
            False, count, vocabulary=vocabulary, dtype=normalizers.dtype, workspace=ctx.workspace, device=hidden.device
        )
        for part in _chunks(count, vocabulary):
            states, scale = hidden[part], gradient[part].unsqueeze(1)
            # -softmax * gradient, plus the gradient at the target.
            share = memory[part]
            if kept:
                share.mul_(-scale / totals[part].unsqueeze(1))
            else:
                _product(states, low.T, share).sub_(normalizers[part].unsqueeze(1)).exp_().mul_(-scale)
            share = share.scatter_add_(1, targets[part].unsqueeze(1), scale).to(hidden.dtype)
            if hidden_gradient is not None:
                torch.mm(share, low, out=hidden_gradient[part])
            if weight_gradient is not None:
                _product(share.T, states, weight_gradient, add=part.start > 0)
        memory.give_back()
        if need_weight and weight_gradient is None:
            weight_gradient = torch.zeros_like(weight)
        return hidden_gradient, weight_gradient, None, None, None
