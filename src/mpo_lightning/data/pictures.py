"""Opens images from untrusted bytes: bounded in pixels, in the formats listed here, fully decoded or refused.

An image is opened as a person sees it (`Pixels` "seen"): turned upright by its EXIF orientation, on a white ground
where it is transparent, and with more than 8 bits a channel scaled by their range. The reference does none of this and
takes what Pillow's `convert("RGB")` makes of the stored pixels ("reference"): transparent parts get the colour below
them, mostly black, and 16-bit values are cut off at 255.

Pillow decodes, because its bicubic filter gives the reference's exact pixels. The header is read before the body, so an
oversized image is refused before it costs memory.
"""

import io
import struct
import warnings
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mpo_lightning.errors import BadRecord

Image.init()  # registers every format's reader, so that `formats=` can name them

Pixels = Literal["seen", "reference"]
Made = TypeVar("Made")

MAX_PIXELS = 64_000_000
"""Largest width * height that is decoded (about 200 MB as RGB)."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
}
OTHER_EXTENSIONS = ("jpeg", "jpe", "jfif", "tiff", "pgm", "pbm", "pnm")
"""Further extensions that files of these formats have."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""

# Exceptions that Pillow's readers raise on damaged files.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
)


def open_picture(data: bytes, pixels: Pixels = "seen") -> Image.Image:
    """Decodes an image to RGB.

    Args:
        data: bytes of the encoded file.
        pixels: "seen" for what a person sees, "reference" for the reference's pixels.

    Raises:
        BadRecord: not an image in one of `FORMATS`, more than `MAX_PIXELS`, cut short, or of values whose range is not
            known.
    """
    image = _decoded(data)
    try:
        return _rgb(image) if pixels == "reference" else _seen(image, TURNED.get(_orientation(image, data)))
    except DAMAGE as error:
        raise BadRecord(f"the image's mode {image.mode} cannot be shown ({error}); save it as RGB") from None


def picture_size(data: bytes) -> tuple[int, int, str]:
    """Width and height in pixels as seen, and the usual file extension, from the header alone. Raises as
    `open_picture`.
    """
    image = _header(data)
    width, height = image.size if _orientation(image, data) < 5 else image.size[::-1]
    return width, height, EXTENSIONS[str(image.format)]


def seen_otherwise(data: bytes) -> list[str]:
    """Returns in what ways a person sees an image otherwise than its pixels are stored.

    Raises:
        BadRecord: as `open_picture`.
    """
    image = _header(data)
    deep = _is_deep(image)
    ways = {
        "turned upright": _orientation(image, data) > 1,
        "transparent, on white": image.has_transparency_data and (deep or _alpha_of(_decoded(data)) is not None),
        "of more than 8 bits, scaled": deep,
        "of several frames, the first taken": _is_animated(image),
        "with long texts, read without them": not _is_readable(data),
    }
    return [way for way, holds in ways.items() if holds]


def _seen(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """Returns what a viewer shows of a decoded image, in RGB."""
    if _is_deep(image):
        image = _eight_bits(image)
    elif (transparent := _alpha_of(image)) is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), transparent)
    image = _rgb(image)
    return image.transpose(turn) if turn is not None else image


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _alpha_of(image: Image.Image) -> Image.Image | None:
    """Returns a decoded image with its transparency, as RGBA; None if no part of it is transparent.

    Some programs write BMP and TIFF with a fourth channel of zeros that means nothing.
    """
    if not image.has_transparency_data:
        return None
    found = image.convert("RGBA")
    alpha = np.asarray(found)[..., 3]
    return found if alpha.min() < 255 and (alpha.max() > 0 or image.format not in ("BMP", "TIFF")) else None


def _is_animated(image: Image.Image) -> bool:
    """Whether there are frames after the first; a camera's MPO has other views there, which nobody is shown."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except DAMAGE:
        return False


def _orientation(image: Image.Image, data: bytes) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 if there is none that can be read, or if Pillow has turned the image."""
    # Pillow turns a TIFF itself. It decodes a PNG to look for EXIF data behind the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and b"eXIf" not in data and b"tiff:Orientation" not in data):
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return found if found in TURNED else 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales grey values by their range: 16 bits by that of the type, fractions by 0 to 1, others not at all.

    Raises:
        BadRecord: the range cannot be told.
    """
    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if image.mode == "F" and low >= 0 and high <= 1:
        grey = np.rint(values * 255)
    elif image.mode == "F" and low >= 0 and high <= 255:
        grey = np.rint(values)
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        bits, inverted = _tiff_scale(image) if image.format == "TIFF" else (16, False)
        grey = np.minimum(values.astype(np.int64) >> (bits - 8), 255)  # Pillow scales PNG and PPM to 16 bits
        grey = 255 - grey if inverted else grey
    else:
        raise BadRecord(
            f"the image has grey values from {low:g} to {high:g} (mode {image.mode}), and black and white are not "
            "known; save it with 8 or 16 bits a channel"
        )
    if isinstance(key := image.info.get("transparency"), int):
        grey = np.where(values == key, 255, grey)
    return Image.fromarray(grey.astype(np.uint8))


def _tiff_scale(image: Image.Image) -> tuple[int, bool]:
    """Returns the bits of a grey TIFF's values, and whether 0 is white."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (16,))[0]
    return (bits if 8 <= bits <= 16 else 16), tags.get(262) == 0


def _is_readable(data: bytes) -> bool:
    """Whether Pillow reads an image's header as it is."""
    try:
        _opened(data)
    except BadRecord:
        return False
    return True


def _decoded(data: bytes) -> Image.Image:
    def decode(data: bytes) -> Image.Image:
        image = _opened(data)
        try:
            image.load()
        except DAMAGE as error:
            raise BadRecord(f"the image is damaged or cut short ({error})") from None
        if image.format == "PNG":
            _scale_key(image, bits=data[24])
        return image

    return _without_long_texts(data, decode)


def _scale_key(image: Image.Image, bits: int) -> None:
    """Gives a PNG's transparent colour the scale of its pixels; Pillow leaves it at that of the file's bits."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and bits < 8:
        image.info["transparency"] = key * 255 // (2**bits - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _header(data: bytes) -> Image.Image:
    return _without_long_texts(data, _opened)


def _without_long_texts(data: bytes, read: Callable[[bytes], Made]) -> Made:
    """Reads an image; a PNG that cannot be read is tried again without its texts and colour profile.

    Pillow refuses texts that become longer than a mebibyte, although the pixels do not need them.
    """
    try:
        return read(data)
    except BadRecord:
        if not data.startswith(PNG_SIGNATURE) or len(bare := _without_texts(data)) == len(data):
            raise
        return read(bare)


def _without_texts(data: bytes) -> bytes:
    """Returns a PNG without its chunks tEXt, zTXt, iTXt and iCCP."""
    kept, place = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadRecord(f"the image has more than {MAX_PIXELS:,} pixels; shrink it") from None
    except (UnidentifiedImageError, *DAMAGE):
        raise BadRecord(
            f"the file is not an image in a known format ({', '.join(sorted(set(EXTENSIONS.values())))})"
        ) from None
    if image.width * image.height > MAX_PIXELS:
        raise BadRecord(f"the image has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}; shrink it")
    return image
