"""Chooses the grid of square tiles closest to an image's shape. Every index counts tiles so, and InternVL cuts images
so.

Of all grids with at most `max_tiles` tiles, the one with the nearest aspect ratio is chosen. On a tie the larger grid
wins if the image has more than half its pixels. Source: InternVL `internvl_chat/internvl/train/dataset.py`
(`dynamic_preprocess`, `find_closest_aspect_ratio`).
"""

from functools import lru_cache

DEFAULT_MAX_TILES = 12
"""Most tiles of an image in InternVL's own configs, and in an index."""


@lru_cache
def _grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    grids = [
        (cols, rows) for cols in range(1, max_tiles + 1) for rows in range(1, max_tiles + 1) if cols * rows <= max_tiles
    ]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int = 448) -> tuple[int, int]:
    """Columns and rows of the grid for an image.

    Args:
        width: image width in pixels.
        height: image height in pixels.
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
    """Most tiles of each image of a pair; several images share the pair's limit."""
    return max(1, max_tiles // max(1, pictures))


def count_tiles(width: int, height: int, max_tiles: int, tile_size: int = 448) -> int:
    """Number of tiles of an image of this size, including the thumbnail."""
    cols, rows = choose_grid(width, height, max_tiles, tile_size)
    return cols * rows + (cols * rows > 1)
