"""Writes pairs as MMPR publishes them: a jsonl for each data set and kind of pair, and a meta.json that lists them.

    FOLDER/annotations/NAME_pairs_vqa_correctness_rules.jsonl    right against wrong
    FOLDER/annotations/NAME_pairs_vqa_format_rules.jsonl         right against no answer in the requested form
    FOLDER/annotations/NAME_prefix_pair_sr0.5_wo_image.jsonl     DropoutNTP
    FOLDER/meta.json

Names of files and fields follow MMPR (InternVL issue 831). The fields `id`, `kind`, `chosen_meta` and `rejected_meta`
hold each pair's history.
"""

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mpo_lightning.data.shards.jobs import unique_names
from mpo_lightning.files.whole import whole_file, write_json

CORRECTNESS, FORMAT = "pairs_vqa_correctness_rules", "pairs_vqa_format_rules"


def dropout_suffix(ratio: float, with_image: bool) -> str:
    """Returns the suffix of a DropoutNTP file's name."""
    return f"prefix_pair_sr{ratio:g}_{'with' if with_image else 'wo'}_image"


@dataclass(frozen=True)
class Place:
    """The file that a pair is written to.

    Attributes:
        source: name of the data set.
        root: image folder of the data set.
        suffix: kind of pair.
        tiles: most tiles of a pair's images; None is the training run's own limit.
    """

    source: str
    root: str
    suffix: str
    tiles: int | None

    @property
    def of_source(self) -> "Place":
        """The place without the kind of pair."""
        return replace(self, suffix="")


class AnnotationWriter:
    """Writes the annotation files of a folder; they appear under their names once all are complete.

    Args:
        folder: folder to write to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sources: list[Place] = []
        self._files: dict[Place, IO[str]] = {}
        self.lengths: dict[Place, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "AnnotationWriter":
        (self.folder / "annotations").mkdir(parents=True, exist_ok=True)
        return self

    def write(self, place: Place, pair: dict[str, Any]) -> None:
        """Adds a pair."""
        if place not in self._files:
            if place.of_source not in self._sources:
                self._sources.append(place.of_source)
            self._files[place] = self._stack.enter_context(whole_file(self._path(place)))
            self.lengths[place] = 0
        self._files[place].write(json.dumps(pair, ensure_ascii=False) + "\n")
        self.lengths[place] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not None:
            return
        write_json(self.folder / "meta.json", {self._name(place): self._entry(place) for place in self._files})

    def _name(self, place: Place) -> str:
        # A source with two image folders or two limits has files for each.
        safe = unique_names([one.source for one in self._sources])[self._sources.index(place.of_source)]
        return f"{safe}_{place.suffix}"

    def _path(self, place: Place) -> Path:
        return self.folder / "annotations" / f"{self._name(place)}.jsonl"

    def _entry(self, place: Place) -> dict[str, Any]:
        return {
            "root": os.path.relpath(Path(place.root).resolve(), self.folder.resolve()),
            "annotation": f"annotations/{self._name(place)}.jsonl",
            "data_augment": False,
            **({} if place.tiles is None else {"max_dynamic_patch": place.tiles}),
            "repeat_time": 1,
            "length": self.lengths[place],
        }


def joined_meta(folder: Path, metas: Iterable[Path]) -> Path:
    """Writes a meta.json into a folder that joins the data sets of several."""
    entries: dict[str, Any] = {}
    for path in metas:
        for name, entry in json.loads(path.read_text(encoding="utf-8")).items():
            moved = {
                field: os.path.relpath((path.parent / entry[field]).resolve(), folder.resolve())
                for field in ("root", "annotation")
            }
            entries[name] = entry | moved
    return write_json(folder / "meta.json", entries)


def picture_field(names: list[str]) -> dict[str, Any]:
    """Returns a pair's `image` field in MMPR's form: absent, a path, or a list of paths."""
    return {"image": names[0] if len(names) == 1 else names} if names else {}


def system_field(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a pair's `system_prompt` field, which its question may bring."""
    return {"system_prompt": row["system_prompt"]} if row.get("system_prompt") else {}
