"""The gradient of a step, before the optimizer takes it in."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def scale_gradients(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Multiplies gradients by a number; with 0 it removes them.

    A missing gradient leaves a weight alone, while a gradient of zeros lets momentum and weight decay move it.
    """
    for parameter in parameters:
        if parameter.grad is not None and scale == 0:
            parameter.grad = None
        elif parameter.grad is not None and scale != 1:
            parameter.grad.mul_(scale)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, over all ranks if they are sharded."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
