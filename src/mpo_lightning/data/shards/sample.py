"""Writes a question with its pairs as a WebDataset sample of a tar, and reads it back from its members.

    KEY.json     {"question": ..., "answers": [...], "pairs": [{"key": ..., "chosen": 0, "rejected": 1}], ...}
    KEY.0.jpg    the images, numbered in the order of their marks, with their original bytes
    KEY.1.png

Samples of foreign shards, and those of earlier versions, may be a single pair instead: {"question": ..., "chosen": ...,
"rejected": ...}. They may leave out the number of an image if there is one (`KEY.jpg`).
"""

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mpo_lightning.data.annotations.mmpr import refuse_long
from mpo_lightning.data.pictures import EXTENSIONS, OTHER_EXTENSIONS, picture_size
from mpo_lightning.data.records import (
    AnswerPair,
    QuestionRecord,
    checked_answers,
    checked_question,
    checked_system,
    checked_text,
)
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES, count_tiles, tiles_per_picture
from mpo_lightning.errors import BadRecord
from mpo_lightning.files.strict_json import parse_json

PICTURE_NAME = re.compile(
    r"(?:(\d+)\.)?(?:{})".format("|".join(sorted({*EXTENSIONS.values(), *OTHER_EXTENSIONS}))), re.IGNORECASE
)
QUESTION_FIELDS = {"question", "dataset", "max_tiles", "augment", "system_prompt"}
SINGLE_FIELDS = QUESTION_FIELDS | {"chosen", "rejected", "source", "extra"}
PAIR_FIELDS = {"key", "chosen", "rejected", "source", "extra"}

MOST_PAIRS = 1024
"""Most pairs of a sample, since all of it is read for each."""
MAX_KEY_BYTES = 1000
"""Longest key; every row of an index is as wide as the longest one."""


def encode_fields(question: QuestionRecord) -> bytes:
    """The question's JSON member."""
    fields: dict[str, Any] = {"question": question.question, "answers": question.answers, "pairs": []}
    for pair in question.pairs:
        entry = {"key": pair.key, "chosen": pair.chosen, "rejected": pair.rejected, "source": pair.source}
        fields["pairs"].append(entry | ({"extra": pair.extra} if pair.extra else {}))
    fields |= {"dataset": question.dataset, "augment": question.augment}
    if question.max_tiles is not None:
        fields["max_tiles"] = question.max_tiles
    if question.system is not None:
        fields["system_prompt"] = question.system
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def encode_sample(question: QuestionRecord) -> dict[str, Any]:
    """The question as the dict that `webdataset.TarWriter(encoder=False)` writes."""
    sample: dict[str, Any] = {"__key__": question.key, "json": encode_fields(question)}
    for number, data in enumerate(question.images):
        sample[f"{number}.{picture_size(data)[2]}"] = data
    return sample


def decode_sample(key: str, parts: dict[str, bytes]) -> tuple[QuestionRecord, list[str]]:
    """The question of a sample, without the bytes of its images, and the names of the image members in order.

    Args:
        key: key of the sample.
        parts: bytes by extension, including `json`.

    Raises:
        BadRecord: no JSON, a missing or impossible field, a member of no known kind, or images that do not match the
            marks.
    """
    if "json" not in parts:
        raise BadRecord("the sample has no member .json")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise BadRecord(f"its name has more than {MAX_KEY_BYTES} bytes; shorten it")
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
    return _question(key, parts["json"], len(pictures)), [pictures[number] for number in sorted(pictures)]


def parse_question(key: str, body: bytes, images: tuple[bytes, ...]) -> QuestionRecord:
    """The question built from its JSON member and its images. Raises BadRecord as `decode_sample`."""
    return replace(_question(key, body, len(images)), images=images)


def _question(key: str, body: bytes, num_images: int) -> QuestionRecord:
    refuse_long(body, "its .json")
    try:
        fields = parse_json(body.decode("utf-8-sig"))
    except ValueError as error:
        raise BadRecord(f"its .json is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise BadRecord("its .json is not an object")
    # Sets of other kinds have fields of their own, which may be called "answers" or "pairs".
    answers, pairs = _single_pair(key, fields) if "chosen" in fields else _answers(key, fields)
    max_tiles = fields.get("max_tiles")
    if max_tiles is not None and (isinstance(max_tiles, bool) or not isinstance(max_tiles, int) or max_tiles < 1):
        raise BadRecord(f"'max_tiles' is {max_tiles!r:.80}; it must be a whole number, at least 1")
    augment = fields.get("augment")
    if augment is not None and not isinstance(augment, bool):
        raise BadRecord(f"'augment' is {augment!r:.80}; it must be true or false")
    return QuestionRecord(
        key=key,
        question=checked_question(_needed(fields, "question"), num_images),
        answers=answers,
        pairs=pairs,
        dataset=str(fields.get("dataset", "")),
        max_tiles=max_tiles,
        augment=augment is True,
        system=checked_system(fields.get("system_prompt")),
    )


def _single_pair(key: str, fields: dict[str, Any]) -> tuple[tuple[str, ...], tuple[AnswerPair, ...]]:
    answers = checked_answers(_needed(fields, "chosen"), _needed(fields, "rejected"))
    pair = AnswerPair(key, 0, 1, str(fields.get("source", "")), _extra(fields, SINGLE_FIELDS))
    return answers, (pair,)


def _extra(fields: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The other fields of a pair. Shards made elsewhere keep them beside the known ones."""
    extra = fields.get("extra", {})
    others = {name: value for name, value in fields.items() if name not in known}
    return others | (extra if isinstance(extra, dict) else {"extra": extra})


def _answers(key: str, fields: dict[str, Any]) -> tuple[tuple[str, ...], tuple[AnswerPair, ...]]:
    if "answers" not in fields and "pairs" not in fields:
        raise BadRecord("the field 'chosen' is missing")
    answers, entries = _needed(fields, "answers"), _needed(fields, "pairs")
    if not isinstance(answers, list):
        raise BadRecord("'answers' is not a list of strings")
    texts = tuple(checked_text(f"answer {number}", answer) for number, answer in enumerate(answers))
    bare = [text.strip() for text in texts]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise BadRecord('\'pairs\' is not a list of objects such as {"chosen": 0, "rejected": 1}')
    if len(entries) > MOST_PAIRS:
        raise BadRecord(f"it has {len(entries):,} pairs, more than {MOST_PAIRS:,}; make several samples of it")
    shared = _extra(fields, QUESTION_FIELDS | {"answers", "pairs", "extra"})
    pairs = []
    for number, entry in enumerate(entries):
        chosen, rejected = (_needed(entry, side) for side in ("chosen", "rejected"))
        for side in (chosen, rejected):
            if isinstance(side, bool) or not isinstance(side, int) or not 0 <= side < len(texts):
                raise BadRecord(f"pair {number} names the answer {side!r:.80}; the answers are 0 to {len(texts) - 1}")
        if bare[chosen] == bare[rejected]:
            raise BadRecord(f"pair {number} has the same response twice; a pair needs two different ones")
        own = entry.get("key", key if len(entries) == 1 else f"{key}-{number}")
        if not isinstance(own, str) or not own.isprintable() or not 0 < len(own.encode()) <= MAX_KEY_BYTES:
            raise BadRecord(f"the key of pair {number} is {own!r:.80}; it must be a text of 1 to {MAX_KEY_BYTES} bytes")
        extra = shared | _extra(entry, PAIR_FIELDS)
        pairs.append(AnswerPair(own, chosen, rejected, str(entry.get("source", "")), extra))
    if len({pair.key for pair in pairs}) != len(pairs):
        raise BadRecord("two of its pairs have the same key")
    return texts, tuple(pairs)


def _needed(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise BadRecord(f"the field '{name}' is missing")
    return fields[name]


def tokenizer_folder() -> Path:
    """The folder of the packaged tokenizer, for `AutoTokenizer.from_pretrained`."""
    return Path(str(resources.files("mpo_lightning.data"))) / "tokenizer"


@cache
def packaged_tokenizer() -> Tokenizer:
    """The small byte-level BPE tokenizer of this package, which the tiny model also uses."""
    return Tokenizer.from_str((tokenizer_folder() / "tokenizer.json").read_text("utf-8"))


@dataclass(frozen=True)
class QuestionCost:
    """Tile and token counts of a question, with the packaged tokenizer and the default limit of tiles."""

    tiles: int
    prompt_tokens: int
    answer_tokens: tuple[int, ...]


def question_cost(question: QuestionRecord, images: list[bytes]) -> QuestionCost:
    """Counts what a question costs.

    Raises:
        BadRecord: an image's header cannot be read.
    """
    tokenizer = packaged_tokenizer()
    limit = tiles_per_picture(question.max_tiles or DEFAULT_MAX_TILES, len(images))
    tiles = sum(count_tiles(width, height, limit) for width, height, _ in map(picture_size, images))
    prompt, *answers = (len(tokenizer.encode(text).ids) for text in (question.question, *question.answers))
    return QuestionCost(tiles, prompt, tuple(answers))
