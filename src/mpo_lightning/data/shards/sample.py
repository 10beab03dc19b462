"""Writes a record as a WebDataset sample of a tar, and reads it back from its members.

    KEY.json     {"question": ..., "chosen": ..., "rejected": ..., "dataset": ..., "source": ..., ...}
    KEY.0.jpg    the images, numbered in the order of their marks, with their original bytes
    KEY.1.png

Foreign shards may leave out the number if there is one image (`KEY.jpg`).
"""

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mpo_lightning.data.annotations.mmpr import refuse_long
from mpo_lightning.data.pictures import EXTENSIONS, OTHER_EXTENSIONS, picture_size
from mpo_lightning.data.records import PreferenceRecord, checked_answers, checked_question, checked_system
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES, count_tiles, tiles_per_picture
from mpo_lightning.errors import BadRecord
from mpo_lightning.files.strict_json import parse_json

PICTURE_NAME = re.compile(
    r"(?:(\d+)\.)?(?:{})".format("|".join(sorted({*EXTENSIONS.values(), *OTHER_EXTENSIONS}))), re.IGNORECASE
)
KNOWN_FIELDS = {"question", "chosen", "rejected", "dataset", "source", "max_tiles", "augment", "system_prompt", "extra"}


def encode_fields(record: PreferenceRecord) -> bytes:
    """The record's JSON member."""
    fields: dict[str, Any] = {"question": record.question, "chosen": record.chosen, "rejected": record.rejected}
    fields |= {"dataset": record.dataset, "source": record.source, "augment": record.augment}
    if record.max_tiles is not None:
        fields["max_tiles"] = record.max_tiles
    if record.system is not None:
        fields["system_prompt"] = record.system
    if record.extra:
        fields["extra"] = record.extra
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def encode_sample(record: PreferenceRecord) -> dict[str, Any]:
    """The record as the dict that `webdataset.TarWriter(encoder=False)` writes."""
    sample: dict[str, Any] = {"__key__": record.key, "json": encode_fields(record)}
    for number, data in enumerate(record.images):
        sample[f"{number}.{picture_size(data)[2]}"] = data
    return sample


def decode_sample(key: str, parts: dict[str, bytes]) -> tuple[PreferenceRecord, list[str]]:
    """The record of a sample, without the bytes of its images, and the names of the image members in order.

    Args:
        key: key of the sample.
        parts: bytes by extension, including `json`.

    Raises:
        BadRecord: no JSON, a missing or impossible field, a member of no known kind, or images that do not match the
            marks.
    """
    if "json" not in parts:
        raise BadRecord("the sample has no member .json")
    pictures: dict[int, str] = {}
    for name in parts:
        if name == "json":
            continue
        match = PICTURE_NAME.fullmatch(name)
        if not match:
            raise BadRecord(f"the member .{name} is neither .json nor an image (.0.jpg, .1.png, ...)")
        number = int(match[1] or 0)
        if number in pictures:
            raise BadRecord(f"the members .{pictures[number]} and .{name} are both image {number}")
        pictures[number] = name
    if sorted(pictures) != list(range(len(pictures))):
        raise BadRecord(f"the images are numbered {sorted(pictures)}, not 0 to {len(pictures) - 1}; one is missing")
    return _record(key, parts["json"], len(pictures)), [pictures[number] for number in sorted(pictures)]


def parse_record(key: str, body: bytes, images: tuple[bytes, ...]) -> PreferenceRecord:
    """The record built from its JSON member and its images. Raises BadRecord as `decode_sample`."""
    record = _record(key, body, len(images))
    return PreferenceRecord(**{**record.__dict__, "images": images})


def _record(key: str, body: bytes, num_images: int) -> PreferenceRecord:
    refuse_long(body, "its .json")
    try:
        fields = parse_json(body.decode("utf-8-sig"))
    except ValueError as error:
        raise BadRecord(f"its .json is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadRecord("its .json is not an object")
    for required in ("question", "chosen", "rejected"):
        if required not in fields:
            raise BadRecord(f"the field '{required}' is missing")
    chosen, rejected = checked_answers(fields["chosen"], fields["rejected"])
    max_tiles = fields.get("max_tiles")
    if max_tiles is not None and (isinstance(max_tiles, bool) or not isinstance(max_tiles, int) or max_tiles < 1):
        raise BadRecord(f"'max_tiles' is {max_tiles!r:.80}; it must be a whole number, at least 1")
    augment = fields.get("augment")
    if augment is not None and not isinstance(augment, bool):
        raise BadRecord(f"'augment' is {augment!r:.80}; it must be true or false")
    extra = fields.get("extra", {})
    # Shards made elsewhere keep their other fields at the top level.
    others = {name: value for name, value in fields.items() if name not in KNOWN_FIELDS}
    return PreferenceRecord(
        key=key,
        question=checked_question(fields["question"], num_images),
        chosen=chosen,
        rejected=rejected,
        dataset=str(fields.get("dataset", "")),
        source=str(fields.get("source", "")),
        max_tiles=max_tiles,
        augment=augment is True,
        system=checked_system(fields.get("system_prompt")),
        extra=others | (extra if isinstance(extra, dict) else {"extra": extra}),
    )


def tokenizer_folder() -> Path:
    """The folder of the packaged tokenizer, for `AutoTokenizer.from_pretrained`."""
    return Path(str(resources.files("mpo_lightning.data"))) / "tokenizer"


@cache
def packaged_tokenizer() -> Tokenizer:
    """The small byte-level BPE tokenizer of this package, which the tiny model also uses."""
    return Tokenizer.from_str((tokenizer_folder() / "tokenizer.json").read_text("utf-8"))


def record_cost(record: PreferenceRecord, images: list[bytes]) -> dict[str, int]:
    """Token and tile counts of a record, with the packaged tokenizer and the default limit of tiles.

    Raises:
        BadRecord: an image's header cannot be read.
    """
    tokenizer = packaged_tokenizer()
    limit = tiles_per_picture(record.max_tiles or DEFAULT_MAX_TILES, len(images))
    tiles = sum(count_tiles(width, height, limit) for width, height, _ in map(picture_size, images))
    texts = {"prompt": record.question, "chosen": record.chosen, "rejected": record.rejected}
    return {"tiles": tiles} | {f"{name}_tokens": len(tokenizer.encode(text).ids) for name, text in texts.items()}
