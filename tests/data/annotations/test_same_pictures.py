"""Equal files are found, whatever their names, sizes and endings."""

import random
from pathlib import Path

from mpo_lightning.data.annotations.same_pictures import PIECE, same_pictures


def test_it_equals_comparing_every_file_with_every_other(tmp_path: Path) -> None:
    rng = random.Random(0)
    # Few heads, middles and endings, so that files differ in only one of them; some shorter than the piece compared
    # first.
    pieces = [rng.randbytes(PIECE) for _ in range(2)]
    contents = [b"".join(rng.choice(pieces) for _ in range(rng.randint(1, 3))) for _ in range(60)]
    contents += [rng.choice([b"", b"a", b"b"]) for _ in range(10)]
    paths = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        paths.append(str(tmp_path / str(number)))
    expected = [contents.index(content) for content in contents]
    assert same_pictures(paths, [len(content) for content in contents]) == expected
