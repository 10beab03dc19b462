"""Judges that answer a chat: a server that speaks OpenAI's protocol, or a file of replies from an earlier run.

Every reply is written to a file at once, by a hash of its request. So a stopped run resumes without asking again, and
the file replays the run without a server. A line of the file is a JSON object: `request` (the hash), `model`, `reply`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import NOT_JUDGED, Judge, RowOf
from mpo_lightning.inference.chat import ChatServer, Messages, Refused, UnreadableReply


class Chat(Protocol):
    """Answers a chat.

    Raises:
        Refused: this chat is declined; others may not be.
        InputError: the judge does not answer.
    """

    def __call__(self, messages: Messages, temperature: float, max_tokens: int) -> str: ...


REFUSED = 8
"""Number of requests that are all refused before the run ends: a parameter is at fault then."""


class ServerChat:
    """A judge on a server.

    Args:
        url: address of the server, ending in /v1; None is OpenAI's.
        model: name of the model on the server.

    Raises:
        InputError: the package openai is not installed, or the key is missing.
    """

    def __init__(self, url: str | None, model: str) -> None:
        self._server = ChatServer(url, model, "the judge")

    def __call__(self, messages: Messages, temperature: float, max_tokens: int) -> str:
        try:
            return self._server.chat(messages, temperature=temperature, max_tokens=max_tokens).text
        except UnreadableReply as error:
            raise InputError(
                f"the judge at {self._server.url or 'api.openai.com'} does not answer ({error}); replies so far are "
                "kept, run it again to resume"
            ) from None


class KeptReplies:
    """Returns replies from a file, and asks for missing ones and adds them to it.

    Args:
        path: file of replies; a missing file is created.
        model: name of the judge; replies of other judges are not used.
        chat: the judge to ask; None only replays the file.

    Raises:
        InputError: the file cannot be read, or is missing and can only be replayed.
    """

    def __init__(self, path: Path, model: str, chat: Chat | None) -> None:
        self.path, self.model, self.chat = path, model, chat
        self._lock = Lock()
        self._asking: dict[str, Lock] = {}
        self.replies: dict[str, str] = {}
        if not path.exists() and chat is None:
            raise InputError(f"{path}: there is no file of a judge's replies; give --judge.url to ask a judge")
        if path.exists():
            lines = path.read_bytes().split(b"\n")
            for number, line in enumerate(lines, start=1):
                try:
                    kept = json.loads(line) if line.strip() else None
                    if kept is not None and (kept.get("readable", True) or chat is None):
                        self.replies[kept["request"]] = str(kept["reply"])
                except (ValueError, KeyError, TypeError):
                    if number == len(lines):
                        continue  # cut off by a kill
                    raise InputError(f"{path}:{number}: not a line of a judge's replies; fix or delete it") from None
            if lines[-1]:
                path.write_bytes(b"\n".join(lines[:-1]) + b"\n" if len(lines) > 1 else b"")

    def __call__(
        self, messages: Messages, temperature: float, max_tokens: int, run: int, read: Callable[[str], object]
    ) -> str:
        """Returns the judge's reply in one run. An unreadable reply is kept for replays, but the next run asks again.

        Raises:
            InputError: the reply is not in the file, and there is no judge to ask.
        """
        asked = json.dumps([self.model, messages, temperature, max_tokens, run], ensure_ascii=False, sort_keys=True)
        request = hashlib.sha256(asked.encode()).hexdigest()
        with self._lock:
            asking = self._asking.setdefault(request, Lock())
        # Equal requests (two responses with the same words) are asked once.
        with asking:
            return (
                self.replies[request]
                if request in self.replies
                else self._ask(request, messages, temperature=temperature, max_tokens=max_tokens, run=run, read=read)
            )

    def _ask(
        self,
        request: str,
        messages: Messages,
        temperature: float,
        max_tokens: int,
        run: int,
        read: Callable[[str], object],
    ) -> str:
        if self.chat is None:
            raise InputError(
                f"{self.path}: holds no reply to one of the requests; give --judge.url to ask for it, or the same "
                "judge, benchmark and responses"
            )
        try:
            reply = self.chat(messages, temperature, max_tokens)
        except Refused as error:
            reply = NOT_JUDGED + str(error)
        readable = not reply.startswith(NOT_JUDGED) and read(reply) is not None
        line = (
            json.dumps({"request": request, "model": self.model, "run": run, "reply": reply, "readable": readable})
            + "\n"
        )
        with self._lock, self.path.open("ab") as file:
            file.write(line.encode())
            self.replies[request] = reply
        return reply


@dataclass(frozen=True)
class Judged:
    """The judge's last reply to one response in one run.

    Attributes:
        reply: text of the reply.
        tries: number of replies asked for.
    """

    reply: str
    tries: int


def ask(judge: Judge[RowOf], replies: KeptReplies, row: RowOf, response: str, run: int) -> Judged:
    """Asks until a reply can be read, as often as the benchmark's rule allows."""
    reply = ""
    for tries in range(judge.tries):
        reply = replies(
            judge.messages(row, response, tries),
            temperature=judge.temperature(tries),
            max_tokens=judge.max_tokens,
            run=run * judge.tries + tries,
            read=judge.read,
        )
        if reply.startswith(NOT_JUDGED) or judge.read(reply) is not None:
            return Judged(reply, tries + 1)
    return Judged(reply, judge.tries)


def ask_all(
    judge: Judge[RowOf],
    replies: KeptReplies,
    rows: Sequence[RowOf],
    responses: Sequence[str],
    runs: int,
    at_once: int,
    advance: Callable[[int], None],
) -> list[list[str]]:
    """Asks for the replies of every run to every response, several at once.

    Args:
        judge: the benchmark's rules for its judge.
        replies: returns or asks for replies.
        rows: problems of the responses.
        responses: responses to grade.
        runs: number of times that each response is graded.
        at_once: number of concurrent requests.
        advance: called with 1 after each request.

    Returns:
        The replies, [response][run].

    Raises:
        InputError: the judge does not answer, or refuses everything; replies to requests under way are kept.
    """
    found = [[""] * runs for _ in rows]
    with ThreadPoolExecutor(at_once) as pool:
        waiting: dict[Future[Judged], tuple[int, int]] = {
            pool.submit(ask, judge, replies, row=row, response=responses[place], run=run): (place, run)
            for place, row in enumerate(rows)
            for run in range(runs)
        }
        refused = answered = 0
        try:
            while waiting:
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    place, run = waiting.pop(done)
                    found[place][run] = reply = done.result().reply
                    refused, answered = refused + reply.startswith(NOT_JUDGED), answered + 1
                    if refused == answered == REFUSED:
                        raise InputError(f"the judge refuses the first {REFUSED} requests: {reply}")
                    advance(1)
        finally:
            for future in waiting:
                future.cancel()
    return found
