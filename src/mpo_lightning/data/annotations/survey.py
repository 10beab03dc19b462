"""The first pass over MMPR annotations: it checks every line and measures every image before anything is written."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.data.annotations.mmpr import AnnotationSet, make_record, parse_line, read_lines, read_meta
from mpo_lightning.data.annotations.same_pictures import same_pictures
from mpo_lightning.data.annotations.split import connected_groups
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.data.shards.sample import encode_fields
from mpo_lightning.errors import BadRecord, InputError


@dataclass(frozen=True, slots=True)
class PairPlace:
    """The place of a pair's line, and the size of its sample in bytes."""

    dataset: int
    line: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class Rejected:
    """A skipped pair; `where` is file and line."""

    where: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """The result of the first pass."""

    sets: list[AnnotationSet]
    pairs: list[PairPlace]
    keys: list[tuple[bytes, tuple[int, ...]]]
    pictures: list[str]
    picture_sizes: list[int]
    rejected: list[Rejected]
    fingerprint: str

    @property
    def picture_bytes(self) -> int:
        return sum(self.picture_sizes)

    @property
    def total_bytes(self) -> int:
        return sum(pair.bytes for pair in self.pairs)

    def groups(self) -> list[int]:
        """The group of each pair: pairs that share a question or an image's bytes must not be separated."""
        first = same_pictures(self.pictures, self.picture_sizes)
        return connected_groups(
            [(question, *(first[number] for number in pictures)) for question, pictures in self.keys]
        )


def survey(meta: Path, strict: bool, progress: Callable[[int], None] = lambda done: None) -> Survey:
    """Runs the first pass: parses and checks every line, finds and measures every image.

    Args:
        meta: path of the meta.json.
        strict: whether to stop at the first bad line instead of skipping it.
        progress: called with the number of bytes of annotation read since the last call.

    Raises:
        InputError: the meta file cannot be used, nothing usable was found, or (strict) a line is bad.
    """
    sets = read_meta(meta)
    pairs: list[PairPlace] = []
    keys: list[tuple[bytes, tuple[int, ...]]] = []
    rejected: list[Rejected] = []
    picture_numbers: dict[str, int] = {}
    picture_sizes: list[int] = []
    digest = hashlib.sha256()
    for number, entry in enumerate(sets):
        # Paths are left out: the same data elsewhere makes the same shards.
        digest.update(repr((entry.name, entry.repeat_time, entry.data_augment, entry.max_dynamic_patch)).encode())
        for line_number, offset, line in read_lines(entry.annotation):
            digest.update(line)
            progress(len(line))
            try:
                parsed = parse_line(line, entry.root)
            except BadRecord as error:
                rejected.append(_reject(strict, entry, line_number, error))
                continue
            pictures = [str(path) for path in parsed.pictures]
            for path in pictures:
                if path not in picture_numbers:
                    picture_numbers[path] = len(picture_sizes)
                    picture_sizes.append(os.path.getsize(path))
            body = len(encode_fields(make_record(entry, line_number, parsed, "")))
            sizes = [body, *(picture_sizes[picture_numbers[path]] for path in pictures)]
            # A tar member takes a header of 512 bytes and its content rounded up to 512.
            pairs.append(PairPlace(number, line_number, offset, sum(512 + (size + 511) // 512 * 512 for size in sizes)))
            words = parsed.question.replace(IMAGE_MARK, "").strip()
            question = hashlib.blake2b(words.encode(), digest_size=8).digest()
            keys.append((question, tuple(map(picture_numbers.__getitem__, pictures))))
    if not pairs and not rejected:
        raise InputError(f"{meta}: its annotations hold no pair")
    digest.update(repr(picture_sizes).encode())
    return Survey(
        sets,
        pairs,
        keys=keys,
        pictures=list(picture_numbers),
        picture_sizes=picture_sizes,
        rejected=rejected,
        fingerprint=digest.hexdigest(),
    )


def _reject(strict: bool, entry: AnnotationSet, line: int, error: BadRecord) -> Rejected:
    where = f"{entry.annotation}:{line}"
    if strict:
        raise InputError(f"{where}: {error} (or skip such pairs with --on_bad quarantine)") from None
    return Rejected(where, str(error))
