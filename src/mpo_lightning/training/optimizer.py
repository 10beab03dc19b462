"""The optimizer and its schedule: what is decayed, in which precision, and how the learning rate moves.

Weight decay follows Hugging Face's rule, as in the reference code: biases and the weights of norms are not decayed. The
reference's Transformers (4.37) knew nn.LayerNorm and LlamaRMSNorm only, so it decayed the norms of InternLM2, Qwen2,
Phi-3 and the 6B tower. Here no norm is decayed.
"""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_cosine_schedule_with_warmup

from mpo_lightning.errors import InputError


def make_optimizer(model: nn.Module, make: OptimizerCallable, precision: str) -> Optimizer:
    """Makes the optimizer over the parameters that need a gradient.

    Args:
        model: the policy.
        make: the configured optimizer.
        precision: the trainer's precision, for the message.

    Raises:
        InputError: weights below float32 (updates of 5e-6 vanish in them), or an option that the optimizer refuses.
    """
    low = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} - {
        torch.float32,
        torch.float64,
    }
    if low:
        raise InputError(
            f"trainer.precision {precision} keeps the weights in {low.pop()}, where updates of 5e-6 vanish; "
            "use bf16-mixed (float32 master weights, bf16 arithmetic) or 32-true"
        )
    try:
        return make(parameter_groups(model))
    except ValueError as error:
        raise InputError(f"model.optimizer: {error}") from None


def total_steps(trainer: L.Trainer) -> float:
    """Returns the number of optimizer steps in the whole run.

    `trainer.estimated_stepping_batches` would start the loader, under FSDP2 before the checkpoint is read.
    """
    plan = getattr(getattr(trainer, "datamodule", None), "train_plan", None)
    if plan is None:
        return trainer.estimated_stepping_batches
    epochs, steps = trainer.max_epochs, trainer.max_steps
    limits = [plan.steps * epochs] if epochs not in (None, -1) else []
    return min([*limits, *([steps] if steps != -1 else [])], default=float("inf"))


def warmup_cosine(optimizer: Optimizer, steps: float, warmup_ratio: float) -> LRScheduler:
    """Makes the schedule: a linear rise over `warmup_ratio` of the steps (rounded up), then a cosine to 0.

    Raises:
        InputError: the run has no end.
    """
    if steps == float("inf") or steps < 1:
        raise InputError(
            "the run has no end, but the learning rate's cosine needs one; set trainer.max_epochs or trainer.max_steps"
        )
    warmup = -(-int(steps * warmup_ratio * 1_000_000) // 1_000_000)
    return get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=warmup, num_training_steps=int(steps))


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Splits the parameters that need a gradient into two groups: decayed, and with weight_decay 0."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    seen: set[int] = set()  # tied weights belong to several modules
    for module in model.modules():
        is_norm = "norm" in type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                (plain if is_norm or "bias" in name else decayed).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
