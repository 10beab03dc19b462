"""Private API of torch, transformers and PEFT, all of it that models use.

`tests/models/test_internals.py` checks each assumption; pyproject.toml has the upper bounds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = [
    "FakeTensorMode",
    "adapters_off",
    "attention_of",
    "expert_parameter",
    "parameters_and_buffers",
    "register_experts",
    "set_attention",
    "set_experts",
    "storage_key",
]


def set_attention(text_config: Any, name: str) -> None:
    """Chooses a language model's attention by its registered name, from the next call on.

    transformers' public `set_attn_implementation` is one of the whole model and checks the name against the model's
    class, and its modules read this attribute of their configuration at each call.
    """
    text_config._attn_implementation = name


def attention_of(text_config: Any) -> str:
    """Returns the name of a language model's attention, which transformers chose when the model was made."""
    return str(text_config._attn_implementation)


def set_experts(text_config: Any, name: str) -> None:
    """Chooses how a mixture of experts is computed by its registered name, as `set_attention` does for attention."""
    text_config._experts_implementation = name


def register_experts(name: str) -> None:
    """Registers grouped matrix products in the dtype of autocast, and exact ones in float64.

    transformers' own take the dtype of the weights: under autocast, with float32 weights, they would compute in
    float32; and they have no float64.
    """
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

    def experts(module: Any, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
            stand_in: Any = _InDtype(module, low)
            return grouped_mm_experts_forward(stand_in, hidden.to(low), index, weights.to(low))
        if hidden.dtype == torch.float64:
            return type(module).forward.__wrapped__(module, hidden, index, weights)
        return grouped_mm_experts_forward(module, hidden, index, weights)

    ALL_EXPERTS_FUNCTIONS.register(name, experts)


class _InDtype:
    """A module whose tensors appear in another dtype."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return value.to(self._dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Disables the adapters inside the context: the model as before training, without adapter dropout.

    PEFT's public `enable_adapters` also changes which parameters are trained.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


class ExpertParameter(NamedTuple):
    """The weight of all experts that an adapter changes.

    Attributes:
        name: its name in the experts' module.
        out_first: whether it is stored as [experts, out, in]; otherwise [experts, in, out].
    """

    name: str
    out_first: bool


def expert_parameter(layer: Any) -> ExpertParameter | None:
    """Returns the weight of the experts that an adapter layer of PEFT changes; None if it changes a linear layer."""
    name = getattr(layer, "parameter_name", None)
    return None if name is None else ExpertParameter(name, bool(layer._did_swap_in_out_features))


def parameters_and_buffers(module: nn.Module) -> tuple[dict[str, nn.Parameter | None], dict[str, Tensor | None]]:
    """Returns a module's own tables of parameters and buffers, to replace entries in place."""
    return module._parameters, module._buffers


def storage_key(tensor: Tensor) -> int:
    """Returns a number that tensors share if they share their memory; fake tensors, which have no address, too."""
    return int(tensor.untyped_storage()._cdata)
