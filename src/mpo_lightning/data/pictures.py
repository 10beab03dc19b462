"""Opens images from untrusted bytes: bounded in pixels, in the formats listed here, fully decoded or refused.

Pillow decodes them, because its bicubic filter gives the reference's exact pixels. The header is read before the body,
so an oversized image is refused before it costs memory.
"""

import io
import struct
import warnings

from PIL import Image, UnidentifiedImageError

from mpo_lightning.errors import BadRecord

Image.init()  # registers every format's reader, so that `formats=` can name them

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


def open_picture(data: bytes) -> Image.Image:
    """Decodes an image, in its own mode.

    Args:
        data: bytes of the encoded file.

    Raises:
        BadRecord: not an image in one of `FORMATS`, more than `MAX_PIXELS`, or cut short.
    """
    image = _header(data)
    try:
        image.load()
    except DAMAGE as error:
        raise BadRecord(f"the image is damaged or cut short ({error})") from None
    return image


def picture_size(data: bytes) -> tuple[int, int, str]:
    """Width and height in pixels and the usual file extension, read from the header alone. Raises as `open_picture`."""
    image = _header(data)
    return image.width, image.height, EXTENSIONS[str(image.format)]


def _header(data: bytes) -> Image.Image:
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
