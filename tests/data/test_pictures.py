"""A picture is opened as a person sees it; a damaged one is a picture or one reason, and nothing else."""

import base64
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from transformers.image_utils import load_image

from mpo_lightning.data.pictures import FORMATS, open_picture, picture_size, seen_otherwise
from mpo_lightning.errors import BadRecord
from mpo_lightning.inference.request import picture_url


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


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, kind: int, bits: int, row: bytes, *chunks: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    """A PNG of one row, with chunks before the pixels, and EXIF data behind them."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)),
        *chunks,
        (b"IDAT", zlib.compress(b"\0" + row)),
        *([(b"eXIf", behind)] if behind else []),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def sent(data: bytes) -> Image.Image:
    """What a server decodes that knows neither EXIF nor transparency."""
    media, _, body = picture_url(data).removeprefix("data:").partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert media == Image.MIME[str(image.format)]
    return image.convert("RGB")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.effect_noise((120, 60), 60).convert("RGB"), kind, exif=exif)
    stored = Image.open(io.BytesIO(data))
    upright = ImageOps.exif_transpose(stored).convert("RGB")
    size = (60, 120) if orientation >= 5 else (120, 60)
    seen = open_picture(data)
    assert seen.size == size == picture_size(data)[:2]
    assert seen.tobytes() == upright.tobytes() == load_image(Image.open(io.BytesIO(data))).tobytes()
    assert np.abs(np.asarray(sent(data), dtype=int) - np.asarray(upright, dtype=int)).max() == 0
    if kind != "TIFF":  # Pillow turns a TIFF whether it is asked or not
        assert open_picture(data, "reference").tobytes() == stored.convert("RGB").tobytes()
        assert seen_otherwise(data) == (["turned upright"] if orientation > 1 else [])


def test_an_orientation_behind_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(2, 0, 8, b"\x00\xff", behind=exif.tobytes()[6:])
    assert open_picture(data).size == (1, 2) == picture_size(data)[:2]


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40])
def test_unreadable_exif_data_leave_a_picture_as_it_is(exif: bytes) -> None:
    assert open_picture(saved(Image.new("RGB", (12, 6)), "JPEG", exif=exif)).size == (12, 6)


def transparent(mode: str) -> Image.Image:
    """A black square on a transparent ground whose hidden colour is black."""
    image = Image.new("RGBA", (12, 12), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (4, 4, 8, 8))
    return image.convert(mode)


PLAIN = bytes([9, 9, 9, 0, 0, 0])
TRANSPARENT = {
    "RGBA": saved(transparent("RGBA"), "PNG"),
    "LA": saved(transparent("LA"), "PNG"),
    "WebP": saved(transparent("RGBA"), "WEBP", lossless=True, exact=True),
    "GIF": saved(transparent("RGBA"), "GIF"),
    "TIFF": saved(transparent("RGBA"), "TIFF"),
    "P": saved(transparent("RGBA").quantize(), "PNG"),
    "RGB and a key": png(2, 2, 8, PLAIN, (b"tRNS", struct.pack(">HHH", 9, 9, 9))),
    "RGB of 16 bits and a key": png(
        2, 2, 16, struct.pack(">6H", 2000, 2000, 2000, 0, 0, 0), (b"tRNS", struct.pack(">HHH", 2000, 2000, 2000))
    ),
    "L of 4 bits and a key": png(2, 0, 4, b"\x10", (b"tRNS", struct.pack(">H", 1))),
    "L of 2 bits and a key": png(4, 0, 2, b"\x50", (b"tRNS", struct.pack(">H", 1))),
    "1 bit and a key": png(2, 0, 1, b"\x80", (b"tRNS", struct.pack(">H", 1))),
    "L and a key": png(2, 0, 8, b"\x09\x00", (b"tRNS", struct.pack(">H", 9))),
    "I;16 and a key": png(2, 0, 16, struct.pack(">HH", 9, 0), (b"tRNS", struct.pack(">H", 9))),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_transparent_is_white(name: str) -> None:
    data = TRANSPARENT[name]
    seen = open_picture(data)
    middle = (seen.width // 2, seen.height // 2)
    assert seen.mode == "RGB" and seen.getpixel((0, 0)) == (255, 255, 255) and seen.getpixel(middle) == (0, 0, 0)
    assert sent(data).tobytes() == seen.tobytes()
    assert "transparent, on white" in seen_otherwise(data)
    assert open_picture(data, "reference").tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_half_transparent_is_half_white() -> None:
    data = saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")
    assert open_picture(data).getpixel((0, 0)) == (127, 127, 127)


RAMP = np.arange(64, dtype=np.uint32) * 1024
DEEP = {
    "PNG": saved(Image.fromarray(RAMP.astype(np.uint16)[None]), "PNG"),
    "TIFF": saved(Image.fromarray(RAMP.astype(np.uint16)[None]), "TIFF"),
    "TIFF, big end first": saved(Image.frombytes("I;16B", (64, 1), RAMP.astype(">u2").tobytes()), "TIFF"),
    "PGM": b"P5 64 1 65535\n" + RAMP.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_keep_their_upper_eight(name: str) -> None:
    seen = np.asarray(open_picture(DEEP[name]))
    assert (seen == (RAMP >> 8)[None, :, None]).all() and len(np.unique(seen)) == 64
    assert seen_otherwise(DEEP[name]) == ["of more than 8 bits, scaled"]
    assert len(np.unique(np.asarray(open_picture(DEEP[name], "reference")))) == 2
    assert sent(DEEP[name]).tobytes() == seen.tobytes()


def floats(*values: float) -> bytes:
    return saved(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")


def test_fractions_are_scaled_by_one_and_other_floats_not() -> None:
    assert np.asarray(open_picture(floats(0, 0.25, 0.5, 1)))[0, :, 0].tolist() == [0, 64, 128, 255]
    assert np.asarray(open_picture(floats(0, 17.4, 255)))[0, :, 0].tolist() == [0, 17, 255]


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (floats(-1, 1), "F"),
        (floats(0, 3000), "F"),
        (floats(0, float("nan")), "F"),
        (floats(0, float("inf")), "F"),
        (saved(Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)), "TIFF"), "I"),
    ],
)
def test_values_of_an_unknown_range_are_refused_with_their_mode(data: bytes, mode: str) -> None:
    with pytest.raises(BadRecord, match=rf"grey values from .* \(mode {mode}\).* save it with 8 or 16 bits"):
        open_picture(data)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iCCP"])
def test_a_png_with_a_long_text_opens(kind: str) -> None:
    image, size = Image.effect_noise((16, 16), 60), 2 << 20
    notes = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        notes.add_itxt("note", "x" * size, zip=True)
    elif kind != "iCCP":
        notes.add_text("note", "x" * size, zip=kind == "zTXt")
    profile = {"icc_profile": b"x" * size} if kind == "iCCP" else {}
    data = saved(image, "PNG", pnginfo=notes, **profile)
    assert open_picture(data).tobytes() == image.convert("RGB").tobytes() and picture_size(data) == (16, 16, "png")


def test_a_text_behind_the_pixels_may_be_long_too() -> None:
    data = saved(Image.new("L", (4, 4), 7), "PNG")
    text = b"note\0\0" + zlib.compress(b"x" * (2 << 20))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    assert open_picture(data[:-12] + chunk + data[-12:]).getpixel((0, 0)) == (7, 7, 7)


def grey_tiff(values: list[int], bits: int, white_is_zero: bool) -> bytes:
    """An uncompressed grey TIFF of one row."""
    if bits == 12:
        packed = "".join(f"{value:012b}" for value in values)
        body = int(packed, 2).to_bytes(len(packed) // 8, "big")
    else:
        body = struct.pack(f"<{len(values)}H", *values)
    tags = [(256, len(values)), (257, 1), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1),
            (278, 1), (279, len(body))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "white_is_zero", "seen"), [(16, False, [0, 255]), (16, True, [255, 0]), (12, False, [0, 255])]
)
def test_a_grey_tiff_says_its_bits_and_which_end_is_white(bits: int, white_is_zero: bool, seen: list[int]) -> None:
    data = grey_tiff([0, 2**bits - 1], bits, white_is_zero)
    assert np.asarray(open_picture(data))[0, :, 0].tolist() == seen


def test_a_channel_of_zeros_in_a_bmp_is_no_transparency() -> None:
    body = bytes([0, 0, 200, 0]) * 4
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 2, 2, 1, 32, 3, len(body), 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body
    assert Image.open(io.BytesIO(data)).mode == "RGBA"
    assert open_picture(data).getpixel((0, 0)) == (200, 0, 0)


def test_an_opaque_picture_is_seen_as_it_is() -> None:
    data = saved(Image.new("RGBA", (4, 4), (9, 8, 7, 255)), "PNG")
    assert seen_otherwise(data) == [] and open_picture(data).getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_taken_and_counted(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = saved(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert open_picture(data).getpixel((0, 0))[0] > 250
    assert "of several frames, the first taken" in seen_otherwise(data)


def test_a_mode_that_pillow_cannot_convert_is_a_bad_record() -> None:
    body = bytes([9, 255] * 4)
    tags = [(256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, 8), (277, 2), (278, 2), (279, len(body)), (338, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert Image.open(io.BytesIO(data)).mode == "La"
    for pixels in ("seen", "reference"):
        with pytest.raises(BadRecord, match=r"mode La cannot be shown .*; save it as RGB"):
            open_picture(data, pixels)


def test_a_long_text_is_not_sent_to_a_server() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "x" * (2 << 20), zip=True)
    data = saved(Image.new("RGB", (4, 4), "red"), "PNG", pnginfo=notes)
    assert seen_otherwise(data) == ["with long texts, read without them"] and sent(data).getpixel((0, 0)) == (255, 0, 0)
