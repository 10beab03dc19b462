"""Gradient checkpointing: layers keep their inputs only and are computed again in the backward pass."""

from typing import Any

from transformers import InternVLForConditionalGeneration

from mpo_lightning.models.internvl.drop_path import path_contexts


def recompute_activations(model: InternVLForConditionalGeneration) -> None:
    """Turns it on for tower and language model; what is computed again drops the paths that it dropped the first time."""
    options: dict[str, Any] = {"use_reentrant": False, "context_fn": path_contexts(model)}
    # transformers 5.2x gives the method a new name, and the old one warns.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
