"""Stochastic depth for the vision tower, which transformers' InternVL class lacks and MPO's recipe uses (0.1).

Each residual branch of a layer is dropped for a whole tile, with a probability that grows linearly over the layers.
Kept branches are scaled up. There are no parameters, so checkpoints are unchanged. Source: InternVL
`modeling_intern_vit.py` (timm's DropPath).

The pair's seed, which identifies the occurrence of its record, decides what is dropped. The result therefore depends
neither on how a step is split into micro-batches and devices nor on earlier random numbers.
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
        probability: probability that a sample's branch is dropped, 0 to 1 (1 excluded).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws: Tensor | None = None
        """Uniform random numbers [N] for the next samples; None draws new ones at every call."""

    def forward(self, branch: Tensor) -> Tensor:
        """Takes and returns [N, ...]; some samples become zero, the others are divided by 1 - probability."""
        if not self.training or self.probability == 0:
            return branch
        draws = torch.rand(len(branch), device=branch.device) if self.draws is None else self.draws
        kept = (draws >= self.probability).to(branch.dtype) / (1 - self.probability)
        return branch * kept.view(-1, *[1] * (branch.ndim - 1))

    def extra_repr(self) -> str:
        return f"probability={self.probability:.3f}"


def add_drop_path(model: InternVLForConditionalGeneration, rate: float) -> None:
    """Adds drop path to both branches of every vision tower layer, from 0 in the first to `rate` in the last.

    It follows the dropout at the end of each branch; the layer scale after it commutes with it.

    Raises:
        InputError: the rate is below 0, or 1 or more.
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
    """Fixes what the next pass over a row's tiles drops; without seeds each pass draws anew.

    Gradient checkpointing also needs `path_contexts`, since other passes may run before layers are recomputed.

    Args:
        model: model with or without drop path.
        seeds: seed of each pair.
        tile_counts: number of tiles of each pair.
        device: device of the tiles.
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
    """Returns a `context_fn` for torch's checkpoint with which recomputed layers drop the same branches again."""
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
