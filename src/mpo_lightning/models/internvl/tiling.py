"""InternVL's image preprocessing: a grid of tiles and a thumbnail, kept as uint8 and normalized on the device.

uint8 needs a quarter of the bytes from a loader worker to the device. Shape letters: N tiles, S tile side in pixels.
Source: InternVL `internvl_chat/internvl/train/dataset.py` (`dynamic_preprocess`, `build_transform`).
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mpo_lightning.data.tiling import choose_grid, tiles_per_picture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_TOKEN = "<IMG_CONTEXT>"
IMAGE_START, IMAGE_END = "<img>", "</img>"


@dataclass(frozen=True)
class InternVLPictures:
    """InternVL's image preprocessing; implements `data.encoding.Pictures`.

    Attributes:
        tile_size: side of a tile in pixels.
        tokens_per_tile: image tokens per tile.
        token: image token as text.
        mark: text of an image in a prompt, with one image token.
    """

    tile_size: int = 448
    tokens_per_tile: int = 256
    token: str = IMAGE_TOKEN
    mark: str = f"{IMAGE_START}{IMAGE_TOKEN}{IMAGE_END}"

    def cut(self, image: Image.Image, max_tiles: int, pictures: int) -> Tensor:
        """Returns an image's tiles; the images of a question share its tile limit."""
        return cut_tiles(image, tiles_per_picture(max_tiles, pictures), self.tile_size)

    def degrade(self, tiles: Tensor, rng: np.random.Generator) -> Tensor:
        """Applies MMPR's `data_augment` to tiles; see `degrade_tiles`."""
        return degrade_tiles(tiles, rng)

    def layout(self, image: Image.Image, max_tiles: int, pictures: int) -> tuple[int, int]:
        """Returns the columns and rows of an image's grid."""
        return choose_grid(image.width, image.height, tiles_per_picture(max_tiles, pictures), self.tile_size)


def cut_tiles(image: Image.Image, max_tiles: int, tile_size: int = 448) -> Tensor:
    """Cuts an image into tiles, row by row; a thumbnail comes last if the grid has more than one tile.

    Args:
        image: any Pillow image; converted to RGB first.
        max_tiles: maximum number of tiles in the grid, the thumbnail not counted.
        tile_size: side of a tile in pixels.

    Returns:
        uint8 [N, 3, S, S], channels last in memory.
    """
    image = image.convert("RGB")
    cols, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    # The tile of a 1 x 1 grid is the thumbnail itself: the same resize of the whole image.
    resized = np.asarray(image.resize((tile_size * cols, tile_size * rows), Image.Resampling.BICUBIC))
    grid = resized.reshape(rows, tile_size, cols, tile_size, 3).swapaxes(1, 2)
    num_tiles = cols * rows + (cols * rows > 1)
    tiles = np.empty((num_tiles, tile_size, tile_size, 3), dtype=np.uint8)
    tiles[: cols * rows].reshape(rows, cols, tile_size, tile_size, 3)[...] = grid
    if num_tiles > cols * rows:
        tiles[-1] = np.asarray(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC))
    return torch.from_numpy(tiles).permute(0, 3, 1, 2)


def degrade_tiles(tiles: Tensor, rng: np.random.Generator) -> Tensor:
    """Compresses each tile as a JPEG of random quality from 75 to 100 and decodes it again (`data_augment`).

    Args:
        tiles: uint8 [N, 3, S, S].
        rng: random generator of the qualities, seeded by the occurrence of the record.

    Returns:
        uint8 [N, 3, S, S].
    """
    degraded = []
    for tile in tiles.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, format="JPEG", quality=int(rng.integers(75, 101)))
        degraded.append(np.array(Image.open(buffer).convert("RGB")))
    return torch.from_numpy(np.stack(degraded)).permute(0, 3, 1, 2)


def normalize_tiles(tiles: Tensor) -> Tensor:
    """Scales tiles to 0..1, then normalizes them by ImageNet's mean and standard deviation for the vision tower.

    Args:
        tiles: uint8 [N, 3, S, S] on any device.

    Returns:
        float32 [N, 3, S, S], contiguous.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=tiles.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=tiles.device).view(1, 3, 1, 1)
    scaled = tiles.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(mean).div_(std)
