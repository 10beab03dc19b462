"""Private API of torch, transformers and PEFT, all of it that models use.

`tests/models/test_internals.py` checks each assumption; pyproject.toml has the upper bounds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["FakeTensorMode", "adapters_off", "parameters_and_buffers", "set_attention", "storage_key"]


def set_attention(text_config: Any, name: str) -> None:
    """Chooses a language model's attention by its registered name, from the next call on.

    transformers' public `set_attn_implementation` is one of the whole model and checks the name against the model's
    class, and its modules read this attribute of their configuration at each call.
    """
    text_config._attn_implementation = name


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


def parameters_and_buffers(module: nn.Module) -> tuple[dict[str, nn.Parameter | None], dict[str, Tensor | None]]:
    """Returns a module's own tables of parameters and buffers, to replace entries in place."""
    return module._parameters, module._buffers


def storage_key(tensor: Tensor) -> int:
    """Returns a number that tensors share if they share their memory; fake tensors, which have no address, too."""
    return int(tensor.untyped_storage()._cdata)
