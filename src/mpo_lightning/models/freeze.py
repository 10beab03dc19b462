"""Freezing parts of an InternVL2 by the names people use for them."""

from collections.abc import Iterable
from typing import Literal

from torch import nn
from transformers import InternVLForConditionalGeneration

from mpo_lightning.errors import InputError

Part = Literal["vision_tower", "projector", "language_model"]


def part_modules(model: InternVLForConditionalGeneration) -> dict[str, list[nn.Module]]:
    """The modules of each part; together they hold every parameter."""
    return {
        "vision_tower": [model.model.vision_tower],
        "projector": [model.model.multi_modal_projector],
        "language_model": [model.model.language_model, model.lm_head],
    }


def freeze_parts(model: InternVLForConditionalGeneration, parts: Iterable[Part]) -> None:
    """Turns gradients off for the named parts and on for all others.

    Raises:
        InputError: every part is frozen, so nothing would be trained.
    """
    frozen = set(parts)
    modules = part_modules(model)
    if frozen == set(modules):
        raise InputError("all parts are frozen; leave at least one of vision_tower, projector, language_model to train")
    for name, members in modules.items():
        for module in members:
            module.requires_grad_(name not in frozen)


def freeze(model: InternVLForConditionalGeneration) -> InternVLForConditionalGeneration:
    """The whole model without gradients and in eval mode, as a reference is."""
    model.requires_grad_(False)
    return model.eval()
