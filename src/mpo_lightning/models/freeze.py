"""Freezing of named model parts, and gradient checkpointing."""

from collections.abc import Iterable
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Part, family_of


def freeze_parts(model: Any, parts: Iterable[Part]) -> None:
    """Turns gradients off for the named parts and on for all others.

    Raises:
        InputError: every part is frozen, so nothing would be trained.
    """
    frozen = set(parts)
    modules = family_of(model).parts(model)
    if frozen == set(modules):
        raise InputError("all parts are frozen; leave at least one of vision_tower, projector, language_model to train")
    for name, members in modules.items():
        for module in members:
            module.requires_grad_(name not in frozen)


def freeze(model: Any) -> Any:
    """Turns all gradients off and sets eval mode, as for a reference model; returns the model."""
    model.requires_grad_(False)
    return model.eval()


def recompute_activations(model: Any) -> None:
    """Turns gradient checkpointing on.

    Layers keep only their inputs and are recomputed in the backward pass, with the same random numbers.
    """
    contexts = family_of(model).recompute_contexts(model)
    options: dict[str, Any] = {"use_reentrant": False} | ({"context_fn": contexts} if contexts else {})
    # transformers 5.2x renamed the method; the old name warns.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
