"""Reads the turns of other projects' chats: their text, with a mark for each image, and the images that they carry.

A turn's content is a text or a list of parts. Known parts are those of transformers' chat templates and of OpenAI's two
protocols: text, input_text, output_text; image, image_url, input_image. An image part carries the image (a path, bytes,
base64, a data URL), or stands for the next one of the row's column. Whatever an annotation cannot express is refused.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import BadRecord

TEXTS = ("text", "input_text", "output_text")
IMAGES = ("image", "image_url", "input_image")
CARRIERS = ("image", "image_url", "url", "path", "base64")
"""Fields of an image part that may hold the image, or an object that does."""

Picture = str | bytes


@dataclass(frozen=True)
class Turn:
    """One turn.

    Attributes:
        text: its text, with a mark for each image part.
        pictures: what each image part carries; None stands for the next image of the row's column.
    """

    text: Any
    pictures: tuple[Picture | None, ...] = ()

    def filled(self, column: tuple[Picture, ...]) -> tuple[Picture, ...]:
        """Returns the turn's images, with those of the row's column in their places.

        Raises:
            BadRecord: the column has other images than the parts leave out.
        """
        if not self.pictures:
            return column
        missing = sum(picture is None for picture in self.pictures)
        if missing != len(column):
            raise BadRecord(
                f"{len(self.pictures)} images stand in the question, {missing} of them without their data, but the "
                f"columns have {len(column)} images"
            )
        rest = iter(column)
        return tuple(next(rest) if picture is None else picture for picture in self.pictures)


def only_turn(turns: Any, role: str) -> Turn:
    """Returns the single turn allowed.

    Args:
        turns: a text, or a list of turns.
        role: who speaks, "user" or "assistant".

    Raises:
        BadRecord: there are other turns, or the turn holds what an annotation cannot express.
    """
    if isinstance(turns, str):
        return Turn(turns)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRecord(f"a turn of the {role} is {type(turns).__name__}, neither a string nor a list of turns")
    if any(turn.get("role") == "system" and turn.get("content") for turn in turns):
        raise BadRecord(
            "there is a system turn; move its text into a column system_prompt, or remove it if the model has its own"
        )
    spoken = [turn for turn in turns if turn.get("role") != "system"]
    if len(spoken) != 1 or spoken[0].get("role") != role:
        raise BadRecord(
            f"there are {len(spoken)} turns where one of the {role} belongs; only single-turn pairs are accepted"
        )
    _refuse_others(spoken[0], ("role", "content"), "a turn")
    content = spoken[0].get("content")
    if not isinstance(content, list):
        return Turn(content)
    texts, pictures = [], []
    for part in content:
        kind = _kind(part)
        _refuse_others(part, ("type", "text") if kind in TEXTS else ("type", "detail", *CARRIERS), "a part of a turn")
        if kind in TEXTS:
            texts.append(_text(part))
        elif role == "assistant":
            raise BadRecord("an answer has an image part; only questions have images")
        else:
            texts.append(f"{IMAGE_MARK}\n")
            pictures.append(_carried(part))
    return Turn("".join(texts), tuple(pictures))


def read_picture(value: Any) -> Picture:
    """Returns an image's path, or its bytes.

    Args:
        value: a path, a file: or data: URL, bytes, or an object with one of them (`bytes`, `path`, `url`).

    Raises:
        BadRecord: it is something else, or an image on the network.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("url")
    if not isinstance(value, str | bytes) or not value:
        raise BadRecord(f"an image is {type(value).__name__}; it must be a path, a data URL, or bytes in parquet")
    if isinstance(value, bytes):
        return value
    scheme = value[:8].partition(":")[0].lower()
    if scheme == "data":
        return _data_of(value)
    if scheme in ("http", "https", "ftp", "s3", "gs"):
        raise BadRecord(f"the image {value!r:.100} is on the network; download it, and give its path")
    return value.removeprefix("file://")


def _kind(part: Any) -> str:
    if not isinstance(part, dict):
        raise BadRecord(f"a part of a turn's content is {type(part).__name__}, neither text nor an image")
    kind = part.get("type")
    if kind is None:
        raise BadRecord("a part of a turn's content has no type; it must be text or image")
    if kind not in (*TEXTS, *IMAGES):
        raise BadRecord(f"a part of a turn's content is of the type {kind!r:.40}; only text and images can be imported")
    return str(kind)


def _text(part: dict[str, Any]) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRecord(f"the text of a part is {type(text).__name__}, not a string")
    return text


def _carried(part: dict[str, Any]) -> Picture | None:
    filled = {name: part[name] for name in CARRIERS if is_filled(part.get(name))}
    if len(filled) > 1:
        raise BadRecord(f"an image part has the fields {' and '.join(filled)}; leave one of them out")
    for name, value in filled.items():
        return _decoded(value) if name == "base64" else read_picture(value)
    return None


def is_filled(value: Any) -> bool:
    """Whether a field holds something; parquet gives a row that lacks an object one of nulls."""
    if isinstance(value, dict | list):
        return any(map(is_filled, value.values() if isinstance(value, dict) else value))
    return value not in (None, False, "", b"", "[]", "{}", "null")


def _refuse_others(found: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    """Refuses a turn or part with a filled field that an annotation has no place for."""
    for name, value in found.items():
        if name not in known and is_filled(value):
            raise BadRecord(f"{what} has the field '{name:.40}', which an annotation cannot express; leave it out")


def _data_of(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise BadRecord("an image's data URL has no data")
    return _decoded(body) if head.lower().endswith(";base64") else unquote_to_bytes(body)


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadRecord(f"an image's base64 cannot be read ({error})") from None
