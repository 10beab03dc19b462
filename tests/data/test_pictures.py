"""Damaged pictures of every format give a picture or one reason, and nothing else."""

import io
import random

import pytest
from PIL import Image

from mpo_lightning.data.pictures import FORMATS, open_picture, picture_size
from mpo_lightning.errors import BadRecord


def encoded(kind: str) -> bytes:
    image = Image.effect_noise((64, 48), 60).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_picture_opens(kind: str) -> None:
    assert open_picture(encoded(kind)).size == (64, 48) and picture_size(encoded(kind))[:2] == (64, 48)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_picture_is_a_picture_or_a_bad_record(kind: str) -> None:
    rng = random.Random(kind)
    refused = 0
    for _ in range(400):
        data = bytearray(encoded(kind))
        for _ in range(rng.randint(1, 8)):
            # Mostly in the header, where readers are easiest to mislead.
            data[rng.randrange(min(len(data), 300) if rng.random() < 0.7 else len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        try:
            open_picture(bytes(data))
        except BadRecord as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 0
