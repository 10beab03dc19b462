"""Stochastic depth for the vision tower, which transformers' InternVL class leaves out and MPO's recipe trains with
(0.1).

Each residual branch of a layer is dropped for a whole tile with a probability that grows linearly over the layers, and
scaled up otherwise. Nothing has parameters, so checkpoints are unchanged. Source: InternVL `modeling_intern_vit.py`
(timm's DropPath).

What is dropped follows from the pair's seed, which names the occurrence of its record: so it does not depend on how a
step is cut into micro-batches and devices, nor on anything that was drawn before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

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
    """Fixes what the next pass over a row's tiles drops; without seeds it draws anew.

    Recomputation under checkpointing needs `path_contexts`, since other passes may have drawn in between.

    Args:
        model: may have no drop path.
        seeds: of each pair.
        tile_counts: tiles of each pair.
        device: of the tiles.
    """
    branches = _branches(model)
    if not seeds or not any(branch.probability for branch in branches):
        _set(branches, [None] * len(branches))
        return
    generator = torch.Generator()
    draws = [
        torch.rand(count, len(branches), generator=generator.manual_seed(seed))
        for seed, count in zip(seeds, tile_counts, strict=True)
    ]
    _set(branches, torch.cat(draws).to(device).unbind(dim=1))


def path_contexts(
    model: InternVLForConditionalGeneration,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """`context_fn` of torch's checkpoint: what is computed again drops what it dropped the first time."""
    branches = _branches(model)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _drawn(branches, [branch.draws for branch in branches])

    return contexts


@contextmanager
def _drawn(branches: list[DropPath], draws: list[Tensor | None]) -> Iterator[None]:
    later = [branch.draws for branch in branches]
    _set(branches, draws)
    try:
        yield
    finally:
        _set(branches, later)


def _set(branches: list[DropPath], draws: Sequence[Tensor | None]) -> None:
    for branch, numbers in zip(branches, draws, strict=True):
        branch.draws = numbers


def _branches(model: InternVLForConditionalGeneration) -> list[DropPath]:
    return [module for module in model.model.vision_tower.modules() if isinstance(module, DropPath)]
