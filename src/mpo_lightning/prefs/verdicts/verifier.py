"""A verifier model beside the rules: it is asked about responses that the rules leave undecided, and only those.

The prompts are the verifiers' own: CompassVerifier (github.com/open-compass/CompassVerifier, src/prompts.py, CV_PROMPT)
and xVerify (arXiv 2504.10481). The model sees the question's words, its options, the right answer and the response, and
not the picture. Every reply is one line of a file, written at once, so a stopped run goes on where it was. The replies
are held in memory, by every process that makes pairs.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.answers.check import is_unusable
from mpo_lightning.answers.question import LETTERS, Question, named_option, question_of
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.process_pool import process_map
from mpo_lightning.inference.chat import ChatServer, Refused, UnreadableReply
from mpo_lightning.inference.engine import Progress
from mpo_lightning.prefs.filters import first_failed, no_response
from mpo_lightning.prefs.options import PairingRules, VerifierOptions
from mpo_lightning.prefs.prompt_files import AS_ASKED
from mpo_lightning.prefs.questions import with_choices
from mpo_lightning.prefs.responses import PIECE, cut, questions_of
from mpo_lightning.prefs.verdicts.verify import Outcome, Verified, decided_by, verify

Row = dict[str, Any]
MOST_TOKENS = {"compass": 16, "xverify": 64}
REFUSED = 8
"""Number of requests, from the first on, that are all refused before the run ends."""
BOXED = re.compile(r"boxed\{([ABC])\}[^{}]{0,40}$")
WHOLE = re.compile(
    r"\W*(?:(?:final\s+)?judge?ment\W*|(?:the\s+)?(?:answer|grade)\s+is\W*)?"
    r"(?P<said>(?-i:[ABC])|correct|incorrect|invalid)\W*(?:correct|incorrect|invalid)?\W*",
    re.IGNORECASE,
)
"""A reply that is a grade and nothing else; prose that mentions one ("not correct") is none."""
RIGHT = {"a": True, "correct": True, "b": False, "incorrect": False}


@dataclass(frozen=True)
class Asked:
    """A response that the verifier is asked about: its key (`key_of`) and the prompt."""

    key: str
    prompt: str


def verifier_settings(options: VerifierOptions) -> dict[str, Any]:
    """Returns what decides a verifier's replies, without its address; nothing if none is asked."""
    return {} if options.url is None else {"verifier": {"model": options.model, "prompt": options.prompt}}


def key_of(identity: str, sample: int) -> str:
    """Returns the name of a response in the file of replies."""
    return f"{identity} {sample}"


def prompt_of(kind: Literal["compass", "xverify"], row: Row, question: Question) -> str:
    """Returns the verifier's prompt for a response; for a choice, the right answer has its letter and its text."""
    answer = question.gold
    if question.choices and (place := named_option(answer, question.choices)) is not None:
        answer = f"{LETTERS[place]}. {question.choices[place]}"
    text = files("mpo_lightning.prefs.verdicts").joinpath(f"prompts/{kind}.txt").read_text(encoding="utf-8")
    fields = {
        "question": with_choices(row).replace(IMAGE_MARK, "").strip(),
        "answer": answer,
        "response": row["response"],
    }
    return re.sub(r"\{(question|answer|response)\}", lambda match: fields[match[1]], text)


def read(reply: str) -> bool | None:
    """Reads a verifier's reply: a letter, a word, or a box at its end; None if it is invalid, or anything else."""
    found = WHOLE.fullmatch(reply.strip())
    boxed = BOXED.search(reply.strip())
    said = found["said"] if found else boxed[1] if boxed else ""
    return RIGHT.get(said.lower())


@dataclass(frozen=True)
class VerifierReplies:
    """Replies of a verifier model: the file that `ask_verifier` wrote, and the kind of its prompt."""

    path: Path
    kind: Literal["compass", "xverify"]

    def decide(self, row: Row, verified: Verified, form_asked: bool) -> Verified:
        """Returns what the verifier makes of an undecided response; without a readable reply it stays undecided."""
        reply = known_replies(self.path).get(key_of(row["id"], row["sample"]))
        right = read(reply) if reply is not None else None
        return verified if right is None else decided_by(self.kind, right, verified, row["response"], form_asked)


def verifier_replies(
    responses: Path, replies: Path, rules: PairingRules, options: VerifierOptions, workers: int, progress: Progress
) -> VerifierReplies | None:
    """Asks the verifier about what the rules leave undecided, under a progress bar; None if no verifier is named.

    The arguments and errors are those of `ask_verifier`.
    """
    if options.url is None:
        return None
    with progress("verified", responses.stat().st_size, "bytes") as advance:
        ask_verifier(responses, replies, rules, options, workers=workers, advance=advance)
    return VerifierReplies(replies, options.prompt)


def ask_verifier(
    responses: Path,
    replies: Path,
    rules: PairingRules,
    options: VerifierOptions,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Asks about every undecided response of a file whose reply is not in `replies` yet.

    Args:
        responses: file of responses.
        replies: file of replies; new ones are added.
        rules: how responses are filtered and verified.
        options: the verifier.
        workers: number of processes that look for undecided responses.
        advance: called with the number of bytes of `responses` done.

    Raises:
        InputError: the verifier does not answer, or refuses everything; replies so far are kept.
    """
    server = ChatServer(None if options.url == "openai" else options.url, options.model, "the verifier")
    # What was refused is asked again: another server, or another day, may answer.
    known = {key for key, reply in known_replies(replies).items() if reply is not None} if replies.exists() else set()
    pieces = list(cut(responses, PIECE))
    counts = {"answered": 0, "refused": 0}
    undecided = partial(undecided_of, responses, rules, options.prompt)
    with (
        process_map(undecided, pieces, workers) as found,
        replies.open("ab", buffering=0) as file,
        ThreadPoolExecutor(options.at_once) as pool,
    ):
        for (start, stop), asked in zip(pieces, found, strict=True):
            missing = [one for one in asked if one.key not in known]
            for line in _replies(pool, server, options, missing, counts):
                file.write(line)
            advance(stop - start)


def undecided_of(
    path: Path, rules: PairingRules, kind: Literal["compass", "xverify"], piece: tuple[int, int]
) -> list[Asked]:
    """Returns the responses of a piece that pass the filters and that the rules leave undecided."""
    found = []
    for identity, rows in questions_of(path, piece):
        question = checkable(rows[0])
        if question is None:
            continue
        form_asked = rows[0].get("kind") != AS_ASKED
        for row in rows:
            if no_response(row) is None and first_failed(row, rules.filters) is None:
                outcome = verify(row["response"], question, rules.confidence, form_asked).outcome
                if outcome is Outcome.UNDECIDED:
                    found.append(Asked(key_of(identity, row["sample"]), prompt_of(kind, row, question)))
    return found


def checkable(row: Row) -> Question | None:
    """Returns a row's question; None if it has no answer that a response could be compared with."""
    if row.get("answer") is None or not str(row["answer"]).strip():
        return None
    try:
        question = question_of(row)
    except BadRecord:
        return None
    return None if is_unusable(question) else question


def _replies(
    pool: ThreadPoolExecutor,
    server: ChatServer,
    options: VerifierOptions,
    asked: Sequence[Asked],
    counts: dict[str, int],
) -> Iterator[bytes]:
    """Yields a line for each reply as it arrives."""

    def ask(prompt: str) -> dict[str, str]:
        messages = [{"role": "user", "content": prompt}]
        try:
            reply = server.chat(messages, temperature=0.0, max_tokens=MOST_TOKENS[options.prompt])
        except (Refused, UnreadableReply) as error:
            return {"refused": str(error)}
        return {"reply": reply.text} if reply.finished else {"refused": f"a reply without an end: {reply.text}"}

    waiting: dict[Future[dict[str, str]], str] = {pool.submit(ask, one.prompt): one.key for one in asked}
    try:
        while waiting:
            for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                key, said = waiting.pop(done), done.result()
                counts["answered"] += 1
                counts["refused"] += "refused" in said
                if counts["answered"] == counts["refused"] == REFUSED:
                    raise InputError(f"the verifier refuses the first {REFUSED} requests: {said['refused']}")
                yield json.dumps({"key": key, "model": options.model, **said}).encode() + b"\n"
    finally:
        for future in waiting:
            future.cancel()


def known_replies(path: Path) -> dict[str, str | None]:
    """Returns the replies of a file by their key, None for refused ones; the last line may be cut off by a kill."""
    return _replies_in(path, path.stat().st_size)


@lru_cache(maxsize=1)
def _replies_in(path: Path, size: int) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                row = json.loads(line)
                found[row["key"]] = row.get("reply")
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise InputError(f"{path}:{number}: not a line of a verifier's replies; fix or delete it") from None
            path.write_bytes(b"\n".join(lines[:-1]) + b"\n" if len(lines) > 1 else b"")
            return found
    if lines[-1]:
        path.write_bytes(b"\n".join(lines) + b"\n")
    return found
