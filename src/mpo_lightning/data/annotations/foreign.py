"""Imports preference pairs of other projects as MMPR annotations; `foreign_columns` reads their columns."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from mpo_lightning.data.annotations.foreign_columns import Columns, columns_of, read_foreign, read_pair
from mpo_lightning.data.annotations.mmpr import picture_path
from mpo_lightning.data.pictures import open_picture, picture_size
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.whole import whole_file, whole_folder, write_json


def import_pairs(
    source: Path,
    output: Path,
    images: Path | None,
    columns: Columns,
    strict: bool,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[int, int, Columns]:
    """Writes OUTPUT/meta.json, OUTPUT/annotations/NAME.jsonl and OUTPUT/images. Returns the numbers of pairs and of
    skipped rows, and the project of the columns.

    Args:
        source: JSON lines or parquet file.
        output: new folder.
        images: folder that image paths are relative to; None means the source's own.
        columns: project whose columns the file has; "auto" decides by the first row.
        strict: whether to stop at a row that cannot be used instead of writing it to OUTPUT/quarantine.jsonl.
        advance: called with 1 for each row.

    Raises:
        InputError: `output` is not empty, the source cannot be read or holds no usable pair, or (strict) a row is bad.
    """
    root = (images or source.parent).resolve()
    with whole_folder(output) as folder:
        found = _import_to(folder, source, root, columns=columns, strict=strict, advance=advance)
        written, refused, columns, own_images = found
        meta = {
            "root": "images" if own_images else os.path.relpath(root, output.resolve()),
            "annotation": f"annotations/{source.stem}.jsonl",
            "repeat_time": 1,
            "length": written,
        }
        write_json(folder / "meta.json", {source.stem: meta})
    return written, refused, columns


def _import_to(
    output: Path, source: Path, root: Path, columns: Columns, strict: bool, advance: Callable[[int], None]
) -> tuple[int, int, Columns, bool]:
    """Writes annotations and images. Returns as `import_pairs`, and whether images were written."""
    (output / "annotations").mkdir()
    (output / "images").mkdir()
    written = refused = 0
    kinds: set[type] = set()
    annotation = output / "annotations" / f"{source.stem}.jsonl"
    aside = output / "quarantine.jsonl"
    with whole_file(annotation) as file, aside.open("w", encoding="utf-8") as reasons:
        for where, row in read_foreign(source):
            advance(1)
            try:
                if isinstance(row, BadRecord):
                    raise row
                columns = columns_of(row, source) if columns == "auto" else columns
                pair = read_pair(row, columns)
                kinds |= {type(picture) for picture in pair.pictures}
                if len(kinds) > 1:
                    raise InputError(f"{where}: some images of the file are bytes and some are paths; split the file")
                names = [
                    _kept(picture, output) if isinstance(picture, bytes) else _found(picture, root)
                    for picture in pair.pictures
                ]
            except (BadRecord, KeyError) as error:
                reason = f"the column {error} is missing" if isinstance(error, KeyError) else str(error)
                if strict:
                    raise InputError(f"{where}: {reason} (or skip such rows with --on_bad quarantine)") from None
                refused += 1
                reasons.write(json.dumps({"where": where, "reason": reason}, ensure_ascii=False) + "\n")
                continue
            image = {"image": names[0] if len(names) == 1 else names} if names else {}
            line = pair.extra | image | {"question": pair.question, "chosen": pair.chosen, "rejected": pair.rejected}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
        if not written:
            raise InputError(f"{source}: holds no usable pair")
    if not refused:
        aside.unlink()
    return written, refused, columns, bytes in kinds


def _found(name: str, root: Path) -> str:
    """Checks that an image exists and returns its name.

    Raises:
        BadRecord: it does not exist, or lies outside its folder.
    """
    picture_path(root, name)
    return name


def _kept(data: bytes, output: Path) -> str:
    """Writes an image's bytes, once for equal ones, and returns the name."""
    open_picture(data)
    name = f"{hashlib.blake2b(data, digest_size=10).hexdigest()}.{picture_size(data)[2]}"
    path = output / "images" / name
    if not path.exists():
        path.write_bytes(data)
    return name
