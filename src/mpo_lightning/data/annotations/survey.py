"""The first pass over MMPR annotations: it checks every line and measures every image before anything is written."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.data.annotations.mmpr import AnnotationSet, make_record, parse_line, read_lines, read_meta
from mpo_lightning.data.annotations.same_pictures import same_pictures
from mpo_lightning.data.annotations.split import connected_groups
from mpo_lightning.data.records import IMAGE_MARK, question_of
from mpo_lightning.data.shards.sample import encode_fields
from mpo_lightning.errors import BadRecord, InputError


@dataclass(frozen=True, slots=True)
class PairPlace:
    """The place of a pair's line, and what it takes in a tar.

    Attributes:
        dataset: number of its data set.
        line: number of its line.
        offset: byte at which its line starts.
        text_bytes: bytes of its text, with the header of the tar member.
        picture_bytes: bytes of its images, likewise.
        question: a digest of its data set, question, images and system message.
    """

    dataset: int
    line: int
    offset: int
    text_bytes: int
    picture_bytes: int
    question: bytes


QUESTION_BYTES = 2**18
"""Most bytes of text of a sample with several pairs, since all of it is read for each. Further pairs start another one.
The question counts for each of them."""


@dataclass(frozen=True, slots=True)
class QuestionPlace:
    """The pairs of one sample: they have the question and the images in common."""

    pairs: tuple[PairPlace, ...]

    @property
    def bytes(self) -> int:
        """Size of the sample in a tar, at most."""
        return sum(pair.text_bytes for pair in self.pairs) + self.pairs[0].picture_bytes


def question_places(pairs: Iterable[PairPlace]) -> list[QuestionPlace]:
    """Joins the pairs of one question, in the order in which questions first appear."""
    found: list[list[PairPlace]] = []
    filled: list[int] = []
    last: dict[bytes, int] = {}
    for pair in pairs:
        number = last.get(pair.question)
        if number is None or filled[number] + pair.text_bytes > QUESTION_BYTES:
            number = last[pair.question] = len(found)
            found.append([])
            filled.append(0)
        found[number].append(pair)
        filled[number] += pair.text_bytes
    return [QuestionPlace(tuple(places)) for places in found]


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
            numbers = tuple(map(picture_numbers.__getitem__, pictures))
            body = len(encode_fields(question_of([make_record(entry, line_number, parsed, entry.name)])))
            same = repr((number, parsed.question, numbers, parsed.system)).encode()
            images = sum(_in_tar(picture_sizes[picture]) for picture in numbers)
            pairs.append(
                PairPlace(
                    number, line_number, offset, _in_tar(body), images, hashlib.blake2b(same, digest_size=16).digest()
                )
            )
            words = parsed.question.replace(IMAGE_MARK, "").strip()
            question = hashlib.blake2b(words.encode(), digest_size=8).digest()
            keys.append((question, numbers))
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


def _in_tar(size: int) -> int:
    """Bytes of a tar member: a header of 512 bytes, and its content rounded up to 512."""
    return 512 + (size + 511) // 512 * 512


def _reject(strict: bool, entry: AnnotationSet, line: int, error: BadRecord) -> Rejected:
    where = f"{entry.annotation}:{line}"
    if strict:
        raise InputError(f"{where}: {error} (or skip such pairs with --on_bad quarantine)") from None
    return Rejected(where, str(error))
