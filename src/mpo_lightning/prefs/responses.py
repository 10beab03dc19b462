"""Reads a file of responses, as `mpo prefs sample` writes it: cuts it into pieces and checks its lines.

A question's responses are consecutive lines. Files may come from elsewhere or be joined from several runs, so every
line is checked.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError

Row = dict[str, Any]
PIECE = 4 * 2**20
"""Approximate size of a piece in bytes."""

TEXTS = ("question", "prompt", "source", "root", "response", "error")
LEAST = {"sample": 0, "response_tokens": 0, "max_tiles": 1}


def cut(path: Path, size: int) -> Iterator[tuple[int, int]]:
    """Yields where pieces of a file start and stop, in bytes: at least `size` bytes each, cut between questions.

    Raises:
        InputError: a line at the end of a piece cannot be read.
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            start = 0
            while start < total:
                file.seek(start + size - 1)
                file.readline()
                before, stop = None, file.tell()
                while line := file.readline():
                    now = parsed(line, path, "a line")["id"]
                    if before is not None and now != before:
                        break
                    before, stop = now, file.tell()
                stop = min(stop, total)
                yield start, stop
                start = stop
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def questions_of(path: Path, piece: tuple[int, int]) -> Iterator[tuple[str, list[Row]]]:
    """Yields each question's id and its responses, sorted by their numbers.

    Args:
        path: file of responses.
        piece: first byte of the piece, and the byte after its end.

    Raises:
        InputError: a line cannot be used, or two responses to a question have one number.
    """
    with path.open("rb") as file:
        file.seek(piece[0])
        lines = file.read(piece[1] - piece[0]).splitlines()
    rows = (parsed(line, path, f"a line after byte {piece[0]}") for line in lines if line.strip())
    for identity, group in groupby(rows, key=lambda row: row["id"]):
        yield identity, _numbered(list(group), path)


def parsed(line: bytes, path: Path, where: str) -> Row:
    """Reads a line as a response.

    Raises:
        InputError: the line is not a response.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}: {where} is not JSON ({error}); run 'mpo prefs sample' again, or fix it") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise InputError(f"{path}: {where} is not a response: it has no 'id'")
    if row.get("question") is None:
        raise InputError(f"{path}: the response with the id '{row['id']}' has no 'question'")
    images = row["image"] = [row["image"]] if isinstance(row.get("image"), str) else row.get("image") or []
    rules = {name: (isinstance(row.get(name), str), "a text") for name in TEXTS}
    rules |= {
        name: (_is_whole(row.get(name), least), f"a whole number of at least {least}") for name, least in LEAST.items()
    }
    rules["answer"] = isinstance(row.get("answer"), str | int | float), "a text or a number"
    rules["image"] = (
        isinstance(images, list) and all(isinstance(name, str) for name in images),
        "a path or a list of paths",
    )
    for name, (usable, words) in rules.items():
        if row.get(name) is not None and not usable:
            raise InputError(
                f"{path}: the response with the id '{row['id']}' has the {name} {row[name]!r:.40}; it must be {words}"
            )
    return row


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _numbered(rows: Sequence[Row], path: Path) -> list[Row]:
    """Sorts rows by `sample`; rows without a `sample` are numbered by their places."""
    numbered = [row if row.get("sample") is not None else row | {"sample": place} for place, row in enumerate(rows)]
    numbered.sort(key=lambda row: row["sample"])
    for before, row in pairwise(numbered):
        if before["sample"] == row["sample"]:
            raise InputError(
                f"{path}: two responses to the question '{row['id']}' have the number {row['sample']}; pair the runs "
                "they come from one by one, or give each response of a question its own 'sample'"
            )
    return numbered
