"""The grid of square tiles near a picture's own shape: the measure of a picture in every index, and how InternVL cuts
pictures.

Of all grids with at most `max_tiles` tiles the one whose aspect ratio is nearest; on a tie the larger one, if the
picture has more than half its pixels. Source: InternVL `internvl_chat/internvl/train/dataset.py` (`dynamic_preprocess`,
`find_closest_aspect_ratio`).
"""

from functools import lru_cache


@lru_cache
def _grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    grids = [
        (cols, rows) for cols in range(1, max_tiles + 1) for rows in range(1, max_tiles + 1) if cols * rows <= max_tiles
    ]
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
