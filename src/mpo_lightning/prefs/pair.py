"""From responses to pairs: filter, verify, pair, write; with a count of whatever happened to each response.

A question's responses stand together in the file, as `mpo prefs sample` writes them. The file is cut into pieces between questions, which several processes work
through; memory is that of some pieces, and the output does not depend on how many processes there are.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.answers.asked import question_of
from mpo_lightning.data.processes import process_map
from mpo_lightning.data.prompts import RESERVED
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.annotations import CORRECTNESS, FORMAT, AnnotationWriter, Place, picture_field, whole_file
from mpo_lightning.prefs.filters import FILTERS, first_failed
from mpo_lightning.prefs.pairing import Candidate, PairingRules, choose_pairs, distinct
from mpo_lightning.prefs.verify import CONFIDENT, Outcome, Verified, verify

Row = dict[str, Any]
PIECE = 4 * 2**20
"""Bytes of a piece, about."""


@dataclass(frozen=True)
class PairOptions:
    """How pairs are made.

    Attributes:
        rules: of choosing among right and wrong responses.
        filters: names of the quality filters in use.
        confident: least confidence of a verdict that is used.
    """

    rules: PairingRules = field(default_factory=PairingRules)
    filters: tuple[str, ...] = tuple(FILTERS)
    confident: float = CONFIDENT


@dataclass
class Counts:
    """What became of a source's questions and responses.

    Attributes:
        numbers: by name; responses by filter and outcome, questions, pairs, tokens.
        known: how often a used verdict agrees with a `known_verdict` that rows carry, as (outcome, agrees).
    """

    numbers: Counter[str] = field(default_factory=Counter)
    known: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def precision(self) -> dict[str, float]:
        """How often a used verdict agrees with the known one, as a share; of outcomes that any row with a known verdict has."""
        totals = {outcome: self.known[outcome, True] + self.known[outcome, False] for outcome in ("right", "wrong")}
        return {outcome: self.known[outcome, True] / total for outcome, total in totals.items() if total}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(sorted(self.numbers.items())) | ({"precision": self.precision()} if self.known else {})

    def add(self, other: "Counts") -> None:
        """Adds another's numbers."""
        self.numbers += other.numbers
        self.known += other.known


@dataclass
class Piece:
    """What a piece of the file gave: its pairs with their places, a right response to each question that has one (as `chosen`), counts by source, and a hash
    of each question's id."""

    pairs: list[tuple[Place, Row]] = field(default_factory=list)
    right: list[Row] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    questions: "array[int]" = field(default_factory=lambda: array("Q"))


def make_pairs(
    responses: Path,
    output: Path,
    options: PairOptions,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
    right: Path | None = None,
) -> dict[str, Counts]:
    """Writes the annotations and returns counts by source.

    Args:
        responses: the file.
        output: the folder.
        options: how.
        workers: processes.
        advance: told of bytes that are done.
        right: a file for one right response to each question that has one.

    Raises:
        InputError: the file cannot be used.
    """
    pieces = list(cut(responses))
    counts: dict[str, Counts] = {}
    questions = array("Q")
    with (
        process_map(partial(pair_piece, responses, options), pieces, workers) as done,
        AnnotationWriter(output) as writer,
        whole_file(right) as kept,
    ):
        for (start, stop), piece in zip(pieces, done, strict=True):
            for place, pair in piece.pairs:
                writer.write(place, pair)
            kept.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in piece.right)
            for source, found in piece.counts.items():
                counts.setdefault(source, Counts()).add(found)
            questions.extend(piece.questions)
            advance(stop - start)
        numbers = np.frombuffer(questions, dtype=np.uint64) if questions else np.empty(0, np.uint64)
        if len(np.unique(numbers)) < len(numbers):
            raise InputError(f"{responses}: the responses to one question do not stand together; sort the lines by 'id'")
    return counts


def cut(path: Path, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Where pieces of a file of responses start and stop: between questions, `size` bytes apart or a little more.

    Raises:
        InputError: a line at a border cannot be read.
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
                    now = _parsed(line, path, "a line").get("id")
                    if before is not None and now != before:
                        break
                    before, stop = now, file.tell()
                stop = min(stop, total)
                yield start, stop
                start = stop
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _parsed(line: bytes, path: Path, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}: {where} is not JSON ({error}); run 'mpo prefs sample' again, or mend it") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise InputError(f"{path}: {where} is no response: it has no 'id'")
    return row


def pair_piece(path: Path, options: PairOptions, piece: tuple[int, int]) -> Piece:
    """The pairs of a piece.

    Args:
        path: the file.
        options: how.
        piece: where it starts and stops.
    """
    found = Piece()
    with path.open("rb") as file:
        file.seek(piece[0])
        lines = file.read(piece[1] - piece[0]).splitlines()
    rows = (_parsed(line, path, f"a line behind byte {piece[0]}") for line in lines if line.strip())
    for identity, group in groupby(rows, key=lambda row: row["id"]):
        found.questions.append(int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()))
        pair_question(list(group), options, found)
    return found


def pair_question(rows: Sequence[Row], options: PairOptions, found: Piece) -> None:
    """Adds a question's pairs and counts to what was found."""
    first = rows[0]
    counts = found.counts.setdefault(str(first.get("source", "pairs")), Counts())
    numbers = counts.numbers
    numbers["questions"] += 1
    numbers["responses"] += len(rows)
    if not str(first.get("answer") or "").strip():
        numbers["questions without an answer"] += 1
        return
    question = question_of(first)
    sides: dict[Outcome, list[Candidate]] = {outcome: [] for outcome in Outcome}
    history: dict[int, Row] = {}
    for number, row in enumerate(rows):
        numbers["tokens"] += _length(row)
        if (failed := first_failed(row, options.filters)) is not None:
            numbers[failed] += 1
            continue
        verified = verify(row["response"], question, options.confident)
        numbers[verified.outcome.value] += 1
        if isinstance(known := row.get("known_verdict"), bool) and verified.outcome in (Outcome.RIGHT, Outcome.WRONG):
            counts.known[verified.outcome.value, known is (verified.outcome is Outcome.RIGHT)] += 1
        sample = int(row.get("sample", number))
        sides[verified.outcome].append(Candidate(sample, row["response"], verified.verdict.prediction, _length(row)))
        history[sample] = _history(row, sample, verified)
    right, wrong, unformed = (distinct(sides[name]) for name in (Outcome.RIGHT, Outcome.WRONG, Outcome.NO_FORM))
    numbers["said before"] += sum(len(sides[name]) for name in (Outcome.RIGHT, Outcome.WRONG, Outcome.NO_FORM))
    numbers["said before"] -= len(right) + len(wrong) + len(unformed)
    if right:
        found.right.append(_as_chosen(first, right[0], history))
    if not right or not (wrong or unformed):
        numbers["questions all wrong" if not right else "questions all right"] += 1
        return
    pairs, alike = choose_pairs(first["id"], right, [*wrong, *unformed], options.rules)
    numbers["too alike"] += alike
    numbers["questions with pairs"] += bool(pairs)
    formless = {candidate.sample for candidate in unformed}
    for good, bad in pairs:
        suffix = FORMAT if bad.sample in formless else CORRECTNESS
        numbers[suffix] += 1
        numbers["pairs"] += 1
        for side, candidate in (("chosen tokens", good), ("rejected tokens", bad)):
            numbers[side] += candidate.length
        numbers["rejected longer"] += bad.length > good.length
        place = Place(str(first.get("source", "pairs")), str(first.get("root", ".")), suffix, int(first.get("max_tiles") or 12))
        found.pairs.append((place, _pair(first, good, bad, suffix, history)))


def _as_chosen(first: Row, good: Candidate, history: dict[int, Row]) -> Row:
    """A question with a right response, for other kinds of pairs."""
    question = {name: value for name, value in first.items() if name not in (*RESERVED, "sample", "seed")}
    return question | {"chosen": good.text, "chosen_meta": history[good.sample]}


def _length(row: Row) -> int:
    """Tokens of a response; a quarter of its characters where nobody counted."""
    tokens = row.get("response_tokens")
    return int(tokens) if isinstance(tokens, int) else len(row.get("response") or "") // 4


def _history(row: Row, sample: int, verified: Verified) -> Row:
    verdict = {"outcome": verified.outcome.value, **asdict(verified.verdict)}
    del verdict["extraction"]
    kept = {name: row[name] for name in ("seed", "response_tokens", "finished") if row.get(name) is not None}
    return {"sample": sample, **kept, **verdict}


def _pair(first: Row, good: Candidate, bad: Candidate, suffix: str, history: dict[int, Row]) -> Row:
    return {
        "id": f"{first['id']}-{good.sample:02d}-{bad.sample:02d}",
        **picture_field(first.get("image") or []),
        "question": first.get("prompt") or first["question"],
        "chosen": good.text,
        "rejected": bad.text,
        "answer_gt": first["answer"],
        "kind": "format" if suffix == FORMAT else "correctness",
        "prompt_kind": first.get("kind"),
        "chosen_meta": history[good.sample],
        "rejected_meta": history[bad.sample],
    }
