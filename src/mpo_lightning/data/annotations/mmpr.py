"""Reads MMPR as published: a meta.json that names data sets, each a jsonl file of pairs and a folder of images.

    {"coco": {"root": "images/coco", "annotation": "coco.jsonl", "repeat_time": 1, "data_augment": false}}

Relative paths are searched beside meta.json first, then in the working directory, as in the reference.
Source: InternVL `internvl_chat/internvl/train/internvl_chat_mpo.py` (`build_datasets`, `LazySupervisedDataset`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mpo_lightning.data.records import (
    MAX_TEXT_BYTES,
    PreferenceRecord,
    checked_answers,
    checked_question,
    checked_system,
)
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.strict_json import parse_json

MOST_REPEATS = 1000
META_FIELDS = {"root", "annotation", "data_augment", "repeat_time", "length", "max_dynamic_patch"}


@dataclass(frozen=True)
class AnnotationSet:
    """One entry of meta.json, with resolved paths and checked values."""

    name: str
    root: Path
    annotation: Path
    repeat_time: float = 1.0
    data_augment: bool = False
    max_dynamic_patch: int | None = None


@dataclass(frozen=True)
class AnnotationLine:
    """One checked pair of a jsonl file, with its images still as paths."""

    question: str
    chosen: str
    rejected: str
    pictures: tuple[Path, ...]
    system: str | None
    extra: dict[str, Any]


def read_meta(path: Path) -> list[AnnotationSet]:
    """Reads the data sets of a meta.json.

    Raises:
        InputError: the file is missing, is not JSON, or an entry lacks a field or has an impossible value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the meta file ({error.strerror}); give the path of an MMPR meta.json"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the meta file is not UTF-8 text ({error})") from None
    try:
        meta = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: the meta file is not JSON ({error})") from None
    if not isinstance(meta, dict) or not meta:
        raise InputError(f"{path}: the meta file must be an object that names at least one data set")
    return [_annotation_set(path, name, entry) for name, entry in meta.items()]


def _annotation_set(meta_path: Path, name: str, entry: object) -> AnnotationSet:
    where = f"{meta_path}: data set '{name}'"
    if not isinstance(entry, dict):
        raise InputError(f"{where} must be an object with 'root' and 'annotation'")
    unknown = sorted(set(entry) - META_FIELDS)
    if unknown:
        raise InputError(f"{where} has the unknown field '{unknown[0]}'; known are {', '.join(sorted(META_FIELDS))}")
    for required in ("root", "annotation"):
        if not isinstance(entry.get(required), str):
            raise InputError(f"{where} lacks the field '{required}' (a path)")
    repeat = entry.get("repeat_time", 1)
    if not is_repeat_time(repeat):
        raise InputError(
            f"{where}: repeat_time is {repr(repeat)[:40]}; it must be a number above 0 and at most {MOST_REPEATS} "
            "(leave the data set out instead of 0)"
        )
    augment = entry.get("data_augment", False)
    if not isinstance(augment, bool):
        raise InputError(f"{where}: data_augment is {augment!r}; it must be true or false")
    tiles = entry.get("max_dynamic_patch")
    if tiles is not None and (isinstance(tiles, bool) or not isinstance(tiles, int) or tiles < 1):
        raise InputError(f"{where}: max_dynamic_patch is {tiles!r}; it must be a whole number of tiles, at least 1")
    annotation = _resolve(meta_path, entry["annotation"])
    if annotation.suffix != ".jsonl":
        raise InputError(f"{where}: the annotation {entry['annotation']!r} must be a .jsonl file, one pair per line")
    if not annotation.is_file():
        raise InputError(
            f"{where}: the annotation {annotation} does not exist; paths are relative to {meta_path.parent}"
        )
    root = _resolve(meta_path, entry["root"])
    if not root.is_dir():
        raise InputError(f"{where}: the image folder {root} does not exist; paths are relative to {meta_path.parent}")
    return AnnotationSet(
        name, root, annotation=annotation, repeat_time=float(repeat), data_augment=augment, max_dynamic_patch=tiles
    )


def is_repeat_time(value: object) -> bool:
    """Whether a value can be a data set's repeat_time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_REPEATS


def _resolve(meta_path: Path, value: str) -> Path:
    beside = meta_path.parent / value
    return beside if beside.exists() or not Path(value).exists() else Path(value)


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yields line number (from 1), byte offset and bytes of every line that is not blank; overlong lines are cut."""
    offset = number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_TEXT_BYTES + 1):
            number += 1
            if line.strip():
                yield number, offset, line
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_TEXT_BYTES)
            offset = file.tell()


def refuse_long(text: bytes, what: str) -> None:
    """Raises BadRecord for a text of more than `MAX_TEXT_BYTES`."""
    if len(text) > MAX_TEXT_BYTES:
        raise BadRecord(f"{what} has more than {MAX_TEXT_BYTES:,} bytes; shorten it or leave it out")


def parse_line(line: bytes, root: Path, find_pictures: bool = True) -> AnnotationLine:
    """Parses and checks one line of a jsonl file; images are located but not opened.

    Args:
        line: raw bytes of the line.
        root: folder that the line's image paths are relative to and may not leave.
        find_pictures: False leaves them out, where they are known.

    Raises:
        BadRecord: the line cannot be used; the message says why.
    """
    refuse_long(line, "the line")
    try:
        fields = parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRecord(f"the line is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except ValueError as error:
        raise BadRecord(f"the line is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadRecord(f"the line is a JSON {'null' if fields is None else type(fields).__name__}, not an object")
    for required in ("question", "chosen", "rejected"):
        if required not in fields:
            raise BadRecord(f"the field '{required}' is missing")
    if fields.get("video"):
        raise BadRecord("the pair has a video; only images are supported")
    names = fields.get("image")
    names = [] if names in (None, "", []) else [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadRecord(f"'image' is {names!s:.100}; it must be a path, a list of paths, or absent")
    chosen, rejected = checked_answers(fields["chosen"], fields["rejected"])
    known = {"question", "chosen", "rejected", "image", "system_prompt"}
    return AnnotationLine(
        question=checked_question(fields["question"], len(names)),
        chosen=chosen,
        rejected=rejected,
        pictures=tuple(picture_path(root, name) for name in names) if find_pictures else (),
        system=checked_system(fields.get("system_prompt")),
        extra={name: value for name, value in fields.items() if name not in known},
    )


def make_record(
    entry: AnnotationSet, line: int, parsed: AnnotationLine, name: str, images: tuple[bytes, ...] = ()
) -> PreferenceRecord:
    """Builds the record of a line.

    Args:
        entry: data set of the line.
        line: line number.
        parsed: fields of the line.
        name: the data set's name as part of a key.
        images: bytes of the images.
    """
    return PreferenceRecord(
        key=f"{name}-{line:08d}",
        question=parsed.question,
        chosen=parsed.chosen,
        rejected=parsed.rejected,
        images=images,
        dataset=entry.name,
        source=f"{entry.annotation.name}:{line}",
        max_tiles=entry.max_dynamic_patch,
        augment=entry.data_augment,
        system=parsed.system,
        extra=parsed.extra,
    )


@lru_cache(maxsize=64)
def _resolved(root: Path, folder: Path) -> Path:
    """The resolved root of many images; it depends on the working folder."""
    return root.resolve()


def picture_path(root: Path, name: str) -> Path:
    """The path of an image.

    Raises:
        BadRecord: the path leaves its root (also through a link), or there is no such file.
    """
    try:
        path = (root / name).resolve()
        inside = path.is_relative_to(_resolved(root, Path.cwd()))
        exists = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadRecord(f"the image path {name!r:.150} cannot be used ({reason:.100})") from None
    if not inside:
        raise BadRecord(f"the image {name!r:.150} lies outside its root {root}; put it inside or change the root")
    if not exists:
        raise BadRecord(f"the image {name!r:.150} does not exist under {root}")
    if not os.access(path, os.R_OK):
        raise BadRecord(f"the image {name!r:.150} under {root} cannot be read; fix its permissions")
    return path
