"""Measures loader speed: JPEG bytes to tiles on one core, ours (uint8) against a reference-like float32 path.

    python benchmarks/loader.py

The peer does what InternVL's training code does with torchvision (dynamic_preprocess, then per tile: convert, resize,
to float, normalise). It is written with Pillow and torch because no CPU wheel of torchvision exists. Pixels are
compared first and must be equal.

Two ratios. `loader`: a DataLoader with one worker hands tiles to the training process, both on one core. The figure is
wall seconds an image, so the copy between processes counts, as it does in training. `decode + tile`: the worker's
function alone, in process CPU seconds; nearly all of it is Pillow's bicubic resize, which both paths share to keep the
pixels equal. Paths take turns; figures are medians. Normalisation is in the peer's time and not in ours, which does it
on the device.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mpo_lightning.data.pictures import open_picture
from mpo_lightning.data.tiling import choose_grid
from mpo_lightning.models.internvl.tiling import IMAGENET_MEAN, IMAGENET_STD, cut_tiles, normalize_tiles


def picture(width: int, height: int) -> bytes:
    """A smooth coloured image with some noise, as a JPEG of quality 90."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 255, (height // 32, width // 32, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = np.clip(smooth + rng.integers(-12, 12, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def reference_like(data: bytes, max_tiles: int, tile_size: int = 448) -> Tensor:
    """float32 [N, 3, S, S], normalised."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    cols, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    resized = image.resize((tile_size * cols, tile_size * rows), Image.Resampling.BICUBIC)
    boxes = [
        (x * tile_size, y * tile_size, (x + 1) * tile_size, (y + 1) * tile_size)
        for y in range(rows)
        for x in range(cols)
    ]
    tiles = [resized.crop(box) for box in boxes]
    if len(tiles) > 1:
        tiles.append(image.resize((tile_size, tile_size)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = []
    for tile in tiles:
        whole = tile.convert("RGB").resize((tile_size, tile_size), Image.Resampling.BICUBIC)
        tensor = torch.from_numpy(np.array(whole)).permute(2, 0, 1).contiguous().float().div(255)
        pixels.append(tensor.sub(mean).div(std))
    return torch.stack(pixels)


def ours(data: bytes, max_tiles: int) -> Tensor:
    """uint8 [N, 3, S, S]."""
    return cut_tiles(open_picture(data), max_tiles)


class Pictures(Dataset[Tensor]):
    """The same image many times."""

    def __init__(self, function: Callable[[bytes, int], Tensor], data: bytes, max_tiles: int, count: int) -> None:
        self.function, self.data, self.max_tiles, self.count = function, data, max_tiles, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.function(self.data, self.max_tiles)


def loader_seconds(dataset: Pictures) -> float:
    """Wall seconds an image, the worker's start not counted."""
    torch.set_num_threads(1)
    arrivals = [time.perf_counter() for tiles in DataLoader(dataset, batch_size=None, num_workers=1) if len(tiles)]
    skipped = 4  # the worker starts and fills its queue
    return (arrivals[-1] - arrivals[skipped]) / (len(arrivals) - 1 - skipped)


def cpu_seconds(function: Callable[[bytes, int], Tensor], data: bytes, max_tiles: int) -> float:
    start = time.process_time()
    function(data, max_tiles)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each path and size")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("                      loader, ms a picture        decode + tile, ms")
    print("picture      tiles    peer    ours   ratio      peer    ours   ratio   pixels")
    for width, height in ((640, 480), (1024, 768), (2048, 1536)):
        data = picture(width, height)
        for max_tiles in (6, 12):
            equal = torch.equal(normalize_tiles(ours(data, max_tiles)), reference_like(data, max_tiles))
            times: dict[tuple[str, str], list[float]] = {}
            for _ in range(rounds):
                for name, function in (("peer", reference_like), ("ours", ours)):
                    delivered = loader_seconds(Pictures(function, data, max_tiles, 30))
                    times.setdefault(("loader", name), []).append(delivered)
                    times.setdefault(("alone", name), []).extend(
                        cpu_seconds(function, data, max_tiles) for _ in range(6)
                    )
            medians = {key: 1000 * statistics.median(values) for key, values in times.items()}
            columns = [
                f"{medians[kind, 'peer']:8.1f}{medians[kind, 'ours']:8.1f}"
                f"{medians[kind, 'peer'] / medians[kind, 'ours']:8.2f}"
                for kind in ("loader", "alone")
            ]
            print(
                f"{width:>4} x {height:<4} {len(ours(data, max_tiles)):>5} {'  '.join(columns)}   "
                f"{'equal' if equal else 'DIFFERENT'}"
            )


if __name__ == "__main__":
    main()
