"""Reads the files of benchmarks: JSON or JSON lines, or a folder that holds them under one of several names."""

import json
from pathlib import Path
from typing import Any

from mpo_lightning.errors import InputError


def find_file(folder: Path, names: tuple[str, ...], where: str) -> Path:
    """Finds the file of a benchmark: the path itself, or one of the names in a folder.

    Raises:
        InputError: the file is missing; the message says where to get it.
    """
    if folder.is_file():
        return folder
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: holds none of {', '.join(names)}; get the benchmark from {where}")


def read_rows(path: Path) -> list[Any]:
    """Reads the objects of a JSON-lines file, a JSON list, or a JSON object (whose keys become the field "key").

    Raises:
        InputError: the file cannot be read, or a row is not an object; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    whole: Any = None
    try:
        whole = json.loads(text)
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        if path.suffix == ".json" and not text.lstrip().startswith('{"'):
            raise InputError(f"{path}: is not JSON ({error})") from None
    if isinstance(whole, list):
        rows = whole
    elif isinstance(whole, dict) and whole and all(isinstance(value, dict) for value in whole.values()):
        rows = [{"key": key} | value for key, value in whole.items()]
    elif (
        isinstance(whole, dict)
        and path.suffix == ".json"
        and not all(isinstance(value, str) for value in whole.values())
    ):
        rows = [whole]
    elif isinstance(whole, dict) and path.suffix == ".json":
        rows = [{"key": key, "response": value} for key, value in whole.items()]
    else:
        rows = [_line(path, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not rows:
        raise InputError(f"{path}: is empty")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {number} is {str(row)[:40]!r}, not an object")
    return rows


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: is not JSON ({error})") from None
