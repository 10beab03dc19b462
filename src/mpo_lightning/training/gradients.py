"""Scale and norm of a step's gradient, before the optimizer steps."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def scale_gradients(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Multiplies gradients by a number; 0 removes them.

    A weight without a gradient stays as it is; a gradient of zeros would let momentum and weight decay move it.
    """
    for parameter in parameters:
        if parameter.grad is not None and scale == 0:
            parameter.grad = None
        elif parameter.grad is not None and scale != 1:
            parameter.grad.mul_(scale)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns the Euclidean norm of all gradients together, over all ranks if they are sharded."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
