"""Makes pairs from responses: filters, verifies, pairs and writes them, and counts the outcome of every response.

A question's responses are consecutive lines, as `mpo prefs sample` writes them. Several processes work on pieces of the
file, cut between questions. Memory holds a few pieces; the output does not depend on the number of processes.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from mpo_lightning.answers.check import is_unusable
from mpo_lightning.answers.question import Question, question_of
from mpo_lightning.data.prompts import RESERVED
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.process_pool import process_map
from mpo_lightning.files.whole import whole_file
from mpo_lightning.prefs.annotations import CORRECTNESS, FORMAT, AnnotationWriter, Place, picture_field, system_field
from mpo_lightning.prefs.filters import first_failed, no_response
from mpo_lightning.prefs.options import PairingRules
from mpo_lightning.prefs.pairing import Candidate, choose_pairs, distinct
from mpo_lightning.prefs.prompt_files import AS_ASKED
from mpo_lightning.prefs.responses import PIECE, cut, questions_of
from mpo_lightning.prefs.verdicts.verifier import VerifierReplies
from mpo_lightning.prefs.verdicts.verify import Outcome, Verified, verify

Row = dict[str, Any]
UNUSABLE = "questions with an unusable answer"
SET_ASIDE = "set_aside.jsonl"
"""Questions whose answer cannot be used: id, answer and reason a line."""
USED = (Outcome.RIGHT, Outcome.WRONG, Outcome.NO_FORM)
"""Outcomes of the responses that pairs are made of."""


@dataclass
class Counts:
    """Counts of a source's questions and responses.

    Attributes:
        numbers: counts by name: responses by filter and outcome, questions, pairs, tokens.
        known: counts of used outcomes by (outcome, whether it agrees with the row's `known_verdict`).
    """

    numbers: Counter[str] = field(default_factory=Counter)
    known: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def precision(self) -> dict[str, float]:
        """Returns the share of used verdicts that agree with the known one, by outcome; `rejected` joins the wrong and
        the `no_form` ones.
        """
        agree = {
            outcome: (self.known[outcome, True], self.known[outcome, False])
            for outcome in ("right", "wrong", "no_form")
        }
        agree["rejected"] = agree["wrong"][0] + agree["no_form"][0], agree["wrong"][1] + agree["no_form"][1]
        return {outcome: yes / (yes + no) for outcome, (yes, no) in agree.items() if yes + no}

    def as_dict(self) -> dict[str, Any]:
        """Returns the counts as plain values."""
        return dict(sorted(self.numbers.items())) | ({"precision": self.precision()} if self.known else {})

    def add(self, other: "Counts") -> None:
        """Adds another source's counts."""
        self.numbers += other.numbers
        self.known += other.known


@dataclass
class Piece:
    """Results of a piece of the file: pairs with their places, a row with a right response for each question that has
    one, questions whose answer cannot be used, counts by source, and a hash of each question's id.
    """

    pairs: list[tuple[Place, Row]] = field(default_factory=list)
    right: list[Row] = field(default_factory=list)
    set_aside: list[Row] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    questions: "array[int]" = field(default_factory=lambda: array("Q"))


def make_pairs(
    responses: Path,
    output: Path,
    options: PairingRules,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
    right: Path | None = None,
    verifier: VerifierReplies | None = None,
) -> dict[str, Counts]:
    """Writes the annotations and returns counts by source.

    Args:
        responses: file of responses.
        output: folder to write to.
        options: how responses are paired.
        workers: number of processes.
        advance: called with the number of bytes done.
        right: file for one right response to each question that has one.
        verifier: replies of a verifier model, used where the rules leave a response undecided.

    Raises:
        InputError: the file cannot be used.
    """
    pieces = list(cut(responses, PIECE))
    counts: dict[str, Counts] = {}
    questions = array("Q")
    with (
        process_map(partial(pair_piece, responses, options, verifier), pieces, workers) as done,
        AnnotationWriter(output) as writer,
        whole_file(right) if right else Path(os.devnull).open("w", encoding="utf-8") as kept,
        whole_file(output / SET_ASIDE) as set_aside,
    ):
        for (start, stop), piece in zip(pieces, done, strict=True):
            for place, pair in piece.pairs:
                writer.write(place, pair)
            kept.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in piece.right)
            set_aside.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in piece.set_aside)
            for source, found in piece.counts.items():
                counts.setdefault(source, Counts()).add(found)
            questions.extend(piece.questions)
            advance(stop - start)
        numbers = np.frombuffer(questions, dtype=np.uint64) if questions else np.empty(0, np.uint64)
        if len(np.unique(numbers)) < len(numbers):
            raise InputError(
                f"{responses}: the responses to one question are not consecutive lines; sort the lines by 'id'"
            )
    return counts


def pair_piece(path: Path, options: PairingRules, verifier: VerifierReplies | None, piece: tuple[int, int]) -> Piece:
    """Makes the pairs of a piece.

    Args:
        path: file of responses.
        options: how responses are paired.
        verifier: replies of a verifier model, if one was asked.
        piece: first byte of the piece, and the byte after its end.
    """
    found = Piece()
    for identity, rows in questions_of(path, piece):
        found.questions.append(int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()))
        pair_question(rows, options, verifier, found=found)
    return found


def pair_question(rows: Sequence[Row], options: PairingRules, verifier: VerifierReplies | None, found: Piece) -> None:
    """Adds a question's pairs and counts to `found`."""
    first = rows[0]
    counts = found.counts.setdefault(str(first.get("source", "pairs")), Counts())
    numbers = counts.numbers
    numbers["questions"] += 1
    numbers["responses"] += len(rows)
    if first.get("answer") is None or not str(first["answer"]).strip():
        numbers["questions without an answer"] += 1
        return
    try:
        question = question_of(first)
        problem = "the answer reads to nothing" if is_unusable(question) else None
    except BadRecord as error:
        problem = str(error)
    if problem is not None:
        numbers[UNUSABLE] += 1
        found.set_aside.append({"id": first["id"], "answer": first["answer"], "reason": problem})
        return
    sides: dict[Outcome, list[Candidate]] = {outcome: [] for outcome in Outcome}
    history: dict[int, Row] = {}
    form_asked = first.get("kind") != AS_ASKED
    for row in rows:
        numbers["tokens"] += _length(row)
        if (failed := no_response(row) or first_failed(row, options.filters)) is not None:
            numbers[failed] += 1
            continue
        verified = verify(row["response"], question, options.confidence, form_asked)
        if verifier is not None and verified.outcome is Outcome.UNDECIDED:
            verified = verifier.decide(row, verified, form_asked)
            open_still = verified.outcome is Outcome.UNDECIDED
            numbers["left open by the verifier" if open_still else "decided by the verifier"] += 1
        numbers[verified.outcome.value] += 1
        if isinstance(known := row.get("known_verdict"), bool) and verified.outcome in USED:
            counts.known[verified.outcome.value, known is (verified.outcome is Outcome.RIGHT)] += 1
        sample = row["sample"]
        sides[verified.outcome].append(Candidate(sample, row["response"], verified.verdict.prediction, _length(row)))
        history[sample] = _history(row, sample, verified, question)
    right, wrong, unformed = (distinct(sides[name]) for name in USED)
    numbers["said before"] += sum(len(sides[name]) for name in USED)
    numbers["said before"] -= len(right) + len(wrong) + len(unformed)
    if right:
        found.right.append(_as_chosen(first, right[0], history))
    if not right or not (wrong or unformed):
        without = all(row.get("error") for row in rows)
        numbers[
            "questions all right"
            if right
            else "questions all wrong"
            if wrong or unformed
            else "questions without a response"
            if without
            else "questions undecided"
        ] += 1
        return
    pairs, alike = choose_pairs(first["id"], right, [*wrong, *unformed], options)
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
        place = Place(str(first.get("source", "pairs")), str(first.get("root", ".")), suffix, first.get("max_tiles"))
        found.pairs.append((place, _pair(first, good, bad, suffix, history=history)))


def _as_chosen(first: Row, good: Candidate, history: dict[int, Row]) -> Row:
    """Returns a question with a right response as `chosen`, for DropoutNTP."""
    question = {name: value for name, value in first.items() if name not in (*RESERVED, "sample", "seed")}
    return question | {"chosen": good.text, "chosen_meta": history[good.sample]}


def _length(row: Row) -> int:
    """Returns a response's number of tokens; if it was not counted, a quarter of its characters."""
    tokens = row.get("response_tokens")
    return int(tokens) if isinstance(tokens, int) else len(row.get("response") or "") // 4


def _history(row: Row, sample: int, verified: Verified, question: Question) -> Row:
    verdict = {"outcome": verified.outcome.value, **asdict(verified.verdict)}
    del verdict["extraction"]
    kept = {name: row[name] for name in ("seed", "response_tokens", "finished") if row.get(name) is not None}
    return {"sample": sample, **kept, **verdict, "answer_type": question.kind.value, "type_by": question.reason}


def _pair(first: Row, good: Candidate, bad: Candidate, suffix: str, history: dict[int, Row]) -> Row:
    return {
        "id": f"{first['id']}-{good.sample:02d}-{bad.sample:02d}",
        **picture_field(first.get("image") or []),
        **system_field(first),
        "question": first.get("prompt") or first["question"],
        "chosen": good.text,
        "rejected": bad.text,
        "answer_gt": first["answer"],
        "kind": "format" if suffix == FORMAT else "correctness",
        "prompt_kind": first.get("kind"),
        "chosen_meta": history[good.sample],
        "rejected_meta": history[bad.sample],
    }
