"""Converts preference pairs in the columns of other projects to MMPR annotations.

    TRL        prompt, chosen, rejected (texts, or lists of turns whose content may be a list of parts), image or images
    ms-swift   messages (the last turn is the chosen answer), rejected_response (or rejected_messages), images
    RLAIF-V    question, chosen, rejected, image (bytes, in parquet)

Files are JSON lines or parquet; the first row shows whose columns a file has. Both sides of a pair must be a single
turn and answer one prompt with the same images, without a system turn, videos, audio, boxes or tools. Other pairs are
refused, since an annotation could not express them. Images given as bytes, base64 or data URLs are written to
OUTPUT/images; paths stay relative and must exist.

Sources: TRL docs/source/dataset_formats.md; ms-swift docs Custom-dataset (RLHF); the data set card of
openbmb/RLAIF-V-Dataset.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.data.annotations.foreign_turns import Picture, Turn, is_filled, only_turn, read_picture
from mpo_lightning.data.annotations.mmpr import read_lines, refuse_long
from mpo_lightning.data.records import IMAGE_MARK, checked_answers, checked_question, checked_system
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.strict_json import parse_json

Row = dict[str, Any]
Columns = Literal["auto", "trl", "ms-swift", "rlaif-v"]

NOT_EXPRESSED = (
    *("video", "videos", "audio", "audios", "objects", "tools", "history"),
    *("rejected_image", "rejected_images", "rejected_videos", "rejected_audios"),
)
"""Columns of other projects that change what a pair asks, and that an annotation has no field for."""

SWIFT_MARKS = ("<video>", "<audio>", "<ref-object>", "<bbox>")
"""What ms-swift replaces in a text by things that an annotation has no field for."""


@dataclass(frozen=True)
class ForeignPair:
    """One pair, with its images as paths or bytes."""

    question: str
    chosen: str
    rejected: str
    pictures: tuple[Picture, ...]
    extra: Row


def read_foreign(path: Path) -> Iterator[tuple[str, Row | BadRecord]]:
    """Yields the place of each row, and its columns or the error in it.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    try:
        with path.open("rb") as file:
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                raise InputError(f"{path}: is one JSON array; write one object a line (jq -c '.[]' FILE)")
        for number, _, line in read_lines(path):
            try:
                refuse_long(line, "the line")
                row = parse_json(line.decode("utf-8-sig"))
                if not isinstance(row, dict):
                    raise BadRecord("the line is not an object")
            except BadRecord as error:
                row = error
            except ValueError as error:
                row = BadRecord(f"the line is not JSON ({error})")
            yield f"{path}:{number}", row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _read_parquet(path: Path) -> Iterator[tuple[str, Row | BadRecord]]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: reading parquet needs the package pyarrow: pip install 'mpo-lightning[parquet]'"
        ) from None
    number = 0
    try:
        file = ParquetFile(path)
        if len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
            raise InputError(f"{path}: two columns have the same name; rename one")
        for batch in file.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as parquet ({' '.join(str(error).split()):.120})") from None


def columns_of(row: Row, path: Path) -> Columns:
    """The project whose columns a row has.

    Raises:
        InputError: no known project has these columns.
    """
    if "messages" in row and ("rejected_response" in row or "rejected_messages" in row):
        return "ms-swift"
    if {"chosen", "rejected"} <= row.keys():
        if "prompt" in row or isinstance(row["chosen"], list):
            return "trl"
        if "question" in row:
            return "rlaif-v"
    raise InputError(
        f"{path}: has the columns {', '.join(sorted(row))[:120]}; known are TRL's (prompt, chosen, rejected), "
        "ms-swift's (messages, rejected_response) and RLAIF-V's "
        "(question, chosen, rejected)"
    )


def read_pair(row: Row, columns: Columns) -> ForeignPair:
    """Converts a row to a pair.

    Raises:
        BadRecord: the row cannot be used.
    """
    for name in NOT_EXPRESSED:
        if is_filled(row.get(name)):
            raise BadRecord(
                f"the column '{name}' is filled, and an annotation cannot express it; both sides of a pair answer one "
                "question about the same images"
            )
    asked, chosen, rejected, used = {"trl": _trl, "ms-swift": _swift, "rlaif-v": _rlaif}[columns](row)
    pictures, question = asked.filled(_pictures(row)), asked.text
    if len(pictures) > 1 and isinstance(question, str) and IMAGE_MARK not in question:
        question = f"{IMAGE_MARK}\n" * len(pictures) + question
    answers = checked_answers(chosen, rejected)
    if any(IMAGE_MARK in answer for answer in answers):
        raise BadRecord(f"an answer contains the mark {IMAGE_MARK}; only questions have images")
    apart = {*used, *NOT_EXPRESSED, "image", "images", "system", "system_prompt"}
    rest = _plain({name: value for name, value in row.items() if name not in apart})
    if (system := checked_system(row.get("system_prompt") or row.get("system"))) is not None:
        rest["system_prompt"] = system
    return ForeignPair(checked_question(question, len(pictures)), *answers, pictures=pictures, extra=rest)


def _trl(row: Row) -> tuple[Turn, Any, Any, set[str]]:
    prompt, sides = row.get("prompt"), [row["chosen"], row["rejected"]]
    if prompt is None:
        # The prompt is implicit: both sides begin with the same turns.
        heads = [side[:-1] for side in sides if isinstance(side, list)]
        if len(heads) != 2 or heads[0] != heads[1]:
            raise BadRecord("there is no prompt, and chosen and rejected do not begin with the same turns")
        prompt, sides = heads[0], [side[-1:] for side in sides]
    chosen, rejected = (only_turn(side, "assistant").text for side in sides)
    return only_turn(prompt, "user"), chosen, rejected, {"prompt", "chosen", "rejected"}


def _swift(row: Row) -> tuple[Turn, Any, Any, set[str]]:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise BadRecord("'messages' is not a list of turns")
    rejected, turns = row.get("rejected_response"), row.get("rejected_messages")
    if isinstance(rejected, list) and not all(isinstance(turn, dict) for turn in rejected):
        raise BadRecord("'rejected_response' is a list, but not of turns; give one text")
    if isinstance(rejected, list) and not turns:
        rejected, turns = None, rejected
    if rejected is None:
        if not isinstance(turns, list) or not turns:
            raise BadRecord("there is neither a 'rejected_response' nor a list 'rejected_messages'")
        if turns[:-1] and turns[:-1] != messages[:-1]:
            raise BadRecord(
                "'rejected_messages' begins with other turns than 'messages'; both sides of a pair answer the same "
                "question"
            )
        rejected = only_turn(turns[-1:], "assistant").text
    elif turns:
        raise BadRecord("there are both 'rejected_response' and 'rejected_messages'; leave one of them out")
    asked, chosen = only_turn(messages[:-1], "user"), only_turn(messages[-1:], "assistant").text
    for mark in SWIFT_MARKS:
        if any(isinstance(text, str) and mark in text for text in (asked.text, chosen, rejected)):
            raise BadRecord(f"the mark {mark} stands for what an annotation cannot express; only images can")
    return asked, chosen, rejected, {"messages", "rejected_response", "rejected_messages", "rejected_images"}


def _rlaif(row: Row) -> tuple[Turn, Any, Any, set[str]]:
    return Turn(row["question"]), row["chosen"], row["rejected"], {"question", "chosen", "rejected"}


def _pictures(row: Row) -> tuple[Picture, ...]:
    """The images of the columns `image` and `images`, of which one may be filled."""
    columns = [found if isinstance(found, list) else [found] for found in (row.get("images"), row.get("image"))]
    images, image = (found if is_filled(found) else [] for found in columns)
    if not all(map(is_filled, images or image)):
        raise BadRecord("an image of the list is empty; give each one, or leave it out with its mark")
    if images and image and images != image:
        raise BadRecord("the columns 'image' and 'images' hold different images; leave one of them out")
    return tuple(map(read_picture, images or image))


def _plain(value: Any) -> Any:
    """A value that JSON can hold: a number that is none becomes null, and what JSON does not know becomes text.

    Raises:
        BadRecord: it holds bytes.
    """
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        raise BadRecord("a column besides the images holds bytes, which an annotation cannot; leave it out")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
