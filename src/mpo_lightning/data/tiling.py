"""Dynamic tiling: a picture becomes a grid of square tiles near its own shape, and a thumbnail of the whole.

The rule is InternVL's: of all grids with at most `max_tiles` tiles take the one whose aspect ratio is nearest; on a tie the
larger one, if the picture has more than half its pixels. Tiles stay uint8 (a quarter of the bytes from a loader worker to
the device) and are normalised there by `normalize_tiles`.

Shape letters: N tiles, S tile side in pixels.
Source: InternVL `internvl_chat/internvl/train/dataset.py` (`dynamic_preprocess`, `find_closest_aspect_ratio`).
"""

import io
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@lru_cache
def _grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    grids = [(cols, rows) for cols in range(1, max_tiles + 1) for rows in range(1, max_tiles + 1) if cols * rows <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int = 448) -> tuple[int, int]:
    """Columns and rows of the grid for a picture.

    Args:
        width: picture width in pixels.
        height: picture height in pixels.
        max_tiles: most tiles in the grid, the thumbnail not counted.
        tile_size: side of a tile in pixels.
    """
    ratio, area = width / height, width * height
    best, best_difference = (1, 1), float("inf")
    for cols, rows in _grids(max_tiles):
        difference = abs(ratio - cols / rows)
        wins_tie = difference == best_difference and area > 0.5 * tile_size * tile_size * cols * rows
        if difference < best_difference or wins_tie:
            best, best_difference = (cols, rows), difference
    return best


def tiles_per_picture(max_tiles: int, pictures: int) -> int:
    """Most tiles of one picture of a pair that has several: they share the pair's limit."""
    return max(1, max_tiles // max(1, pictures))


def count_tiles(width: int, height: int, max_tiles: int, tile_size: int = 448) -> int:
    """How many tiles a picture of this size becomes, the thumbnail counted."""
    cols, rows = choose_grid(width, height, max_tiles, tile_size)
    return cols * rows + (cols * rows > 1)


def cut_tiles(image: Image.Image, max_tiles: int, tile_size: int = 448) -> Tensor:
    """The picture as tiles, row by row; a thumbnail of the whole comes last when the grid has more than one.

    Args:
        image: any Pillow picture; converted to RGB first.
        max_tiles: most tiles in the grid, the thumbnail not counted.
        tile_size: side of a tile in pixels.

    Returns:
        uint8 [N, 3, S, S], channels last in memory.
    """
    image = image.convert("RGB")
    cols, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    # A 1 x 1 grid's tile is the thumbnail itself: the same resize of the whole picture.
    resized = np.asarray(image.resize((tile_size * cols, tile_size * rows), Image.Resampling.BICUBIC))
    grid = resized.reshape(rows, tile_size, cols, tile_size, 3).swapaxes(1, 2)
    num_tiles = cols * rows + (cols * rows > 1)
    tiles = np.empty((num_tiles, tile_size, tile_size, 3), dtype=np.uint8)
    tiles[: cols * rows].reshape(rows, cols, tile_size, tile_size, 3)[...] = grid
    if num_tiles > cols * rows:
        tiles[-1] = np.asarray(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    return torch.from_numpy(tiles).permute(0, 3, 1, 2)


def degrade_tiles(tiles: Tensor, rng: np.random.Generator) -> Tensor:
    """Each tile compressed as a JPEG of a random quality from 75 to 100 and decoded again (`data_augment`).

    Args:
        tiles: uint8 [N, 3, S, S].
        rng: source of the qualities; seed it by the occurrence of the record.
    """
    degraded = []
    for tile in tiles.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, format="JPEG", quality=int(rng.integers(75, 101)))
        degraded.append(np.array(Image.open(buffer).convert("RGB")))
    return torch.from_numpy(np.stack(degraded)).permute(0, 3, 1, 2)


def normalize_tiles(tiles: Tensor) -> Tensor:
    """Tiles as the vision tower takes them: scaled to 0..1, then ImageNet mean and standard deviation.

    Args:
        tiles: uint8 [N, 3, S, S] on any device.

    Returns:
        float32 [N, 3, S, S], contiguous.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=tiles.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=tiles.device).view(1, 3, 1, 1)
    scaled = tiles.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(mean).div_(std)
