"""Finds benchmark questions in training data, by their words or by their images.

A fingerprint list is a JSON-lines file; a line is a problem of a benchmark: `benchmark`, `id`, `text` (a hash of its
words without case and punctuation) and `pictures` (256 bits each: which of two neighbouring points of a 17 x 16
thumbnail is brighter, so a copy in another size or format is near). `mpo prefs fingerprint` makes such lists from
benchmarks on disk or from any questions file; `cat` joins lists.

A question is skipped if its words are those of a problem (at least five words, or with the same image), or one of its
images is within 10 bits of a problem's. Thin drawings on white share most of their few bits, so such an image counts
only together with the words. Images of nearly one colour are not compared.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mpo_lightning.data.annotations.mmpr import picture_path
from mpo_lightning.data.pictures import open_picture
from mpo_lightning.data.words import plain_words
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.strict_json import parse_json
from mpo_lightning.files.whole import whole_file

NEAR = 10
"""Most bits of 256 in which two images that count as the same may differ."""

FEW_WORDS = 5
FLAT = 16
"""An image with fewer bits set, or fewer not set, is of nearly one colour."""
PLAIN = 48
"""An image with fewer bits set, or fewer not set, counts only together with the words."""


def text_fingerprint(question: str) -> str:
    """Returns the fingerprint of a question's words, 16 hexadecimal digits."""
    return hashlib.blake2b(plain_words(question).encode(), digest_size=8).hexdigest()


def picture_fingerprint(data: bytes) -> str | None:
    """Returns the fingerprint of an image, 64 hexadecimal digits; None if it is of nearly one colour.

    Raises:
        BadRecord: the image cannot be decoded.
    """
    small = np.asarray(open_picture(data).convert("L").resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    bits = (small[:, 1:] > small[:, :-1] + 2).ravel()
    return np.packbits(bits).tobytes().hex() if FLAT <= bits.sum() <= bits.size - FLAT else None


@dataclass(frozen=True)
class Overlap:
    """The benchmarks' problems, in which questions are looked up.

    Attributes:
        texts: benchmark by fingerprint of a text.
        pictures: fingerprints of the problems' images, uint64 [images, 4].
        benchmarks: benchmark of each image.
    """

    texts: dict[str, str]
    pictures: np.ndarray
    benchmarks: list[str]

    def __call__(self, question: str, pictures: Sequence[Path]) -> str | None:
        """Returns the benchmark that holds a question or one of its images; None if none does."""
        benchmark = self.texts.get(text_fingerprint(question))
        if benchmark is not None and (len(plain_words(question).split()) >= FEW_WORDS or not pictures):
            return benchmark
        for path in pictures:
            if len(self.pictures) and (found := self._picture(str(path), benchmark is not None)) is not None:
                return found
        return None

    def _picture(self, path: str, same_words: bool) -> str | None:
        fingerprint = _fingerprint_of(path)
        if fingerprint is None:
            return None
        own = np.frombuffer(bytes.fromhex(fingerprint), dtype=np.uint64)
        marked = int(np.bitwise_count(own).sum())
        if not same_words and min(marked, 256 - marked) < PLAIN:
            return None
        bits = np.bitwise_count(self.pictures ^ own).sum(axis=1)
        nearest = int(bits.argmin())
        return self.benchmarks[nearest] if bits[nearest] <= NEAR else None


@lru_cache(4096)
def _fingerprint_of(path: str) -> str | None:
    """Returns an image file's fingerprint; None if it cannot be read, which sampling reports later."""
    try:
        return picture_fingerprint(Path(path).read_bytes())
    except (BadRecord, OSError):
        return None


def read_fingerprints(paths: Sequence[Path]) -> Overlap:
    """Reads fingerprint lists.

    Raises:
        InputError: a list cannot be read.
    """
    texts: dict[str, str] = {}
    pictures: list[bytes] = []
    benchmarks: list[str] = []
    for path in paths:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise InputError(
                f"{path}: cannot read the list of fingerprints ({error.strerror}); make one with 'mpo prefs "
                "fingerprint'"
            ) from None
        for number, line in enumerate(lines, start=1):
            try:
                row = parse_json(line.decode())
                found = [bytes.fromhex(picture) for picture in row["pictures"]]
                if any(len(picture) != 32 for picture in found):
                    raise ValueError("an image's fingerprint has 64 digits")
                texts.setdefault(str(row["text"]), str(row["benchmark"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}:{number}: not a fingerprint ({error}); make the list with 'mpo prefs fingerprint'"
                ) from None
            pictures += found
            benchmarks += [str(row["benchmark"])] * len(found)
    bits = np.frombuffer(b"".join(pictures), dtype=np.uint64).reshape(-1, 4)
    return Overlap(texts, bits, benchmarks)


def write_fingerprints(
    problems: Iterator[tuple[str, str, list[Path]]],
    benchmark: str,
    output: Path,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Writes a fingerprint list and returns its numbers of problems and images.

    Args:
        problems: id, question and images of each problem.
        benchmark: name of the benchmark.
        output: file to write.
        advance: called with 1 after each problem.
    """
    count = seen = 0
    with whole_file(output) as file:
        for identity, question, paths in problems:
            pictures = [found for path in paths if (found := picture_fingerprint(path.read_bytes())) is not None]
            file.write(
                json.dumps(
                    {"benchmark": benchmark, "id": identity, "text": text_fingerprint(question), "pictures": pictures}
                )
                + "\n"
            )
            count, seen = count + 1, seen + len(pictures)
            advance(1)
    return count, seen


def problems_of(rows: list[dict[str, Any]], identity: str, root: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Yields the id, question and images of each problem."""
    for number, row in enumerate(rows, start=1):
        names = row.get("image")
        names = [] if names in (None, "", []) else [names] if isinstance(names, str) else names
        try:
            yield (
                str(row.get(identity, number)),
                str(row.get("question") or row.get("text") or ""),
                [picture_path(root, str(name)) for name in names],
            )
        except BadRecord as error:
            raise InputError(f"problem {number}: {error}") from None
