"""Stochastic depth for the vision tower, which transformers' InternVL class leaves out and MPO's recipe trains with (0.1).

Each residual branch of a layer is dropped for a whole tile with a probability that grows linearly over the layers, and scaled
up otherwise. Nothing has parameters, so checkpoints are unchanged. Source: InternVL `modeling_intern_vit.py` (timm's DropPath).

What is dropped follows from the pair's seed, which names the occurrence of its record: so it does not depend on how a step is cut into
micro-batches and devices, nor on anything that was drawn before.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from mpo_lightning.errors import InputError


class DropPath(nn.Module):
    """Drops whole samples of a branch in training mode.

    Args:
        probability: of a sample's branch being dropped, 0 to 1 (1 excluded).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws: Tensor | None = None
        """Uniform numbers [N] of the samples to come; None draws anew at every call."""

    def forward(self, branch: Tensor) -> Tensor:
        """[N, ...] in, the same out, some samples zero and the others divided by 1 - probability."""
        if not self.training or self.probability == 0:
            return branch
        draws = torch.rand(len(branch), device=branch.device) if self.draws is None else self.draws
        kept = (draws >= self.probability).to(branch.dtype) / (1 - self.probability)
        return branch * kept.view(-1, *[1] * (branch.ndim - 1))

    def extra_repr(self) -> str:
        return f"probability={self.probability:.3f}"


def add_drop_path(model: InternVLForConditionalGeneration, rate: float) -> None:
    """Puts drop path on both branches of every layer of the vision tower, from 0 in the first to `rate` in the last.

    It goes where each branch ends in a dropout; the layer scale that follows commutes with it.
    """
    if not 0 <= rate < 1:
        raise InputError(f"drop_path must be at least 0 and below 1, got {rate}")
    layers = model.model.vision_tower.encoder.layer
    for layer, probability in zip(layers, torch.linspace(0, rate, len(layers)).tolist(), strict=True):
        layer.attention.projection_dropout = nn.Sequential(layer.attention.projection_dropout, DropPath(probability))
        layer.dropout = nn.Sequential(layer.dropout, DropPath(probability))


def draw_paths(
    model: InternVLForConditionalGeneration, seeds: Sequence[int], tile_counts: Sequence[int], device: torch.device
) -> None:
    """Fixes what the next pass over a row's tiles drops, recomputation under checkpointing included; without seeds it draws anew.

    Args:
        model: may have no drop path.
        seeds: of each pair.
        tile_counts: tiles of each pair.
        device: of the tiles.
    """
    branches = [module for module in model.model.vision_tower.modules() if isinstance(module, DropPath)]
    if not seeds or not any(branch.probability for branch in branches):
        for branch in branches:
            branch.draws = None
        return
    generator = torch.Generator()
    draws = [
        torch.rand(count, len(branches), generator=generator.manual_seed(seed))
        for seed, count in zip(seeds, tile_counts, strict=True)
    ]
    columns = torch.cat(draws).to(device).unbind(dim=1)
    for branch, column in zip(branches, columns, strict=True):
        branch.draws = column
