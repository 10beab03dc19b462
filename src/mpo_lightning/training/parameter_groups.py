"""Which parameters weight decay applies to: Hugging Face's rule, the one the reference trains with.

Biases and the weights of norms are not decayed; everything else is. The reference's Transformers (4.37) knew nn.LayerNorm and
LlamaRMSNorm only, so it also decayed the norms of InternLM2, Qwen2, Phi-3 and the 6B tower; here all norms count as norms.
"""

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two optimizer groups of the parameters that need a gradient: decayed, and with weight_decay 0."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (plain if is_norm or "bias" in name else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
