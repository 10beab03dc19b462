"""Grids and pixels against the reference's."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from mpo_lightning.data.tiling import choose_grid, count_tiles
from mpo_lightning.models.internvl.tiling import cut_tiles, degrade_tiles, normalize_tiles


def test_every_golden_grid_is_chosen(golden: Path) -> None:
    cases = json.loads((golden / "preprocess" / "grids.json").read_text())
    assert len(cases) > 150
    for case in cases:
        if case["min_num"] != 1:
            continue  # every InternVL2 has 1
        size = (case["width"], case["height"])
        assert choose_grid(*size, case["max_num"], case["image_size"]) == (case["cols"], case["rows"]), case
        if case["use_thumbnail"]:
            assert count_tiles(*size, case["max_num"], case["image_size"]) == case["num_tiles"], case


def test_pictures_of_every_mode_give_the_golden_pixels(golden: Path) -> None:
    pixels = load_file(golden / "preprocess" / "modes_56.safetensors")
    for mode in ("rgba", "gray", "palette"):
        tiles = cut_tiles(Image.open(golden / "preprocess" / f"{mode}.png"), max_tiles=6, tile_size=56)
        torch.testing.assert_close(normalize_tiles(tiles), pixels[f"{mode}_s56_max6"], rtol=0, atol=1e-6)


def test_photographs_give_the_golden_pixels(photographs: Path) -> None:
    small = load_file(photographs / "pixels_56.safetensors")
    large = load_file(photographs / "pixels_448.safetensors")
    for name in ("image1", "image2", "image3"):
        image = Image.open(photographs / f"{name}.jpg")
        for limit in (6, 12):
            ours = normalize_tiles(cut_tiles(image, limit, 56))
            torch.testing.assert_close(ours, small[f"{name}_s56_max{limit}"], rtol=0, atol=1e-6)
        tiles = normalize_tiles(cut_tiles(image, 6))
        torch.testing.assert_close(tiles[:, :, ::8, ::8], large[f"{name}_s448_max6_stride8"], rtol=0, atol=1e-6)
        torch.testing.assert_close(tiles[0, :, :16], large[f"{name}_s448_max6_tile0_rows0to16"], rtol=0, atol=1e-6)
        torch.testing.assert_close(
            tiles[-1, :, 208:240, 208:240], large[f"{name}_s448_max6_last_center32"], rtol=0, atol=1e-6
        )


def test_tiles_are_uint8_in_reading_order_with_the_thumbnail_last() -> None:
    picture = Image.new("RGB", (200, 100))
    picture.paste((255, 0, 0), (0, 0, 100, 100))
    picture.paste((0, 0, 255), (100, 0, 200, 100))
    tiles = cut_tiles(picture, max_tiles=2, tile_size=50)
    assert tiles.dtype == torch.uint8 and tiles.shape == (3, 3, 50, 50)
    assert tiles[0, :, 25, 25].tolist() == [255, 0, 0] and tiles[1, :, 25, 25].tolist() == [0, 0, 255]
    assert tiles[2, 0, 25, 5] == 255 and tiles[2, 2, 25, 45] == 255


def test_random_jpeg_quality_depends_on_the_seed_alone() -> None:
    tiles = cut_tiles(Image.effect_noise((120, 80), 60), 6, 56)
    again, other = (degrade_tiles(tiles, np.random.default_rng(seed)) for seed in (1, 2))
    assert torch.equal(degrade_tiles(tiles, np.random.default_rng(1)), again)
    assert not torch.equal(again, other) and not torch.equal(again, tiles)
    assert again.shape == tiles.shape and again.dtype == torch.uint8
