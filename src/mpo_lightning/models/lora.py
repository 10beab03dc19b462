"""Low-rank adapters on the language model (LoRA), by peft, and the model without them as its own reference.

Every other weight is frozen, so with the adapters off the policy is the model it started as: no second model is needed.
Source: Hu et al. 2021, arXiv 2106.09685; the options' defaults are those of InternVL's fine-tuning scripts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from mpo_lightning.errors import InputError

TARGETS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w*proj"
ADAPTER = "default"


@dataclass(frozen=True)
class Lora:
    """Options of the adapters.

    Attributes:
        rank: of the low-rank update.
        alpha: its scale is alpha / rank; None is twice the rank.
        dropout: on its input.
    """

    rank: int = 16
    alpha: int | None = None
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                f"lora needs a rank of at least 1 and a dropout of at least 0 and below 1, got {self.rank} and {self.dropout}"
            )


def add_adapters(model: InternVLForConditionalGeneration, options: Lora) -> None:
    """Puts adapters that start at zero on every projection of the language model, and freezes everything else.

    Raises:
        InputError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError("model.lora needs peft; pip install 'mpo-lightning[peft]'") from None
    alpha = 2 * options.rank if options.alpha is None else options.alpha
    config = LoraConfig(r=options.rank, lora_alpha=alpha, lora_dropout=options.dropout, target_modules=TARGETS, bias="none")
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


@contextmanager
def adapters_off(model: InternVLForConditionalGeneration) -> Iterator[None]:
    """The model as it was before training, without dropout, inside the context."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@torch.no_grad()
def merged_weights(model: InternVLForConditionalGeneration, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names they have without adapters, each adapter added to its weight.

    Args:
        model: has the adapters (their scales).
        weights: the model's gathered state.
    """
    from peft.tuners.lora import LoraLayer

    merged = {name.replace(".base_layer.", "."): value for name, value in weights.items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            up, down = (weights[f"{name}.lora_{part}.{ADAPTER}.weight"] for part in ("B", "A"))
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + module.scaling[ADAPTER] * (up @ down)
    return merged
