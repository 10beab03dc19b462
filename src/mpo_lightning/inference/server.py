"""The engine on a server that speaks OpenAI's protocol: many requests under way, every answer kept as it comes.

What OpenAI's protocol has no field for goes the way each kind of server takes it (`KINDS`): the likeliest tokens that
may be drawn, and the most tiles of a picture. An answer that is to be gone on with goes out as a plain text completion
where there is no picture, by the model's chat template, since that is the same with every server; with a picture as an
unfinished last turn, which vLLM and SGLang take.

Each answer has a seed of its own, made of the run's and its number; whether the same seed gives the same words again is
up to the server. What was answered is on disk, so all that follows from it can be repeated.
"""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout
from PIL import Image

from mpo_lightning.data.pictures import open_picture
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.inference.answer_file import begin, finish, finished_lines, part_line, parts_lock
from mpo_lightning.inference.chat import ChatServer, Messages, Reply, UnreadableReply
from mpo_lightning.inference.engine import Progress, Work, no_progress
from mpo_lightning.models.draws import mixed_seed
from mpo_lightning.models.family import get_template
from mpo_lightning.models.sampling import Sampling

Kind = Literal["vllm", "sglang", "lmdeploy", "transformers", "openai"]
UNREADABLE = 20
"""So many replies in a row that cannot be read end the run: it is the server then, not the prompts."""


@dataclass(frozen=True)
class ServerEngine:
    """See the module.

    Attributes:
        url: of the server, ending in /v1; None is OpenAI's.
        model: the name to ask for.
        kind: of the server.
        template: the model's chat template; needed to go on with begun answers.
        at_once: requests under way.
        timeout: seconds until a request counts as failed and is sent again.
        max_tiles: most tiles of a prompt's pictures, where the kind of server takes it; a prompt's own limit replaces
            it.
        progress: opens the progress bar of the responses.
    """

    url: str | None
    model: str
    kind: Kind = "vllm"
    template: str | None = None
    at_once: int = 32
    timeout: float = 600.0
    max_tiles: int = 12
    progress: Progress = no_progress

    @property
    def exact_seams(self) -> bool:
        return False

    def description(self) -> dict[str, Any]:
        # Without the address: the same model may be served elsewhere the next time.
        return {
            "server": self.kind,
            "model": self.model,
            "template": self.template,
            "max_tiles": self.max_tiles,
        }

    def check_begun(self, with_picture: bool) -> None:
        if not with_picture and self.template is None:
            raise InputError(
                "to go on with an answer the server's engine needs the model's chat template; give --engine.template"
            )
        if not with_picture:
            get_template(str(self.template))
        elif self.kind not in ("vllm", "sglang"):
            raise InputError(
                f"a server of kind {self.kind} cannot go on with an answer about a picture; vllm and sglang can, and "
                "so does the embedded engine"
            )

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        if self.kind == "openai" and work.sampling is not None and work.sampling.top_k:
            raise InputError(
                f"OpenAI's own protocol has no top_k, and it is {work.sampling.top_k}; set it to 0, or name the kind "
                "of server"
            )
        server = ChatServer(self.url, self.model, "the model", self.timeout)
        drawn = asdict(work.sampling) if work.sampling else None
        settings = self.description() | {
            "prompts": work.asked,
            "max_new_tokens": work.max_new_tokens,
            "sampling": drawn,
        }
        parts = begin(output, settings)
        lock = parts_lock(output)
        try:
            with lock:
                with self.progress("responses", len(work.prompts)) as advance:
                    self._ask_missing(server, work, parts, advance)
                counts = finish(parts, work.prompts, output)
        except Timeout:
            raise InputError(
                f"{output}: another run is writing it; wait for its end, or choose another output"
            ) from None
        Path(lock.lock_file).unlink(missing_ok=True)
        return counts

    def _ask_missing(self, server: ChatServer, work: Work, parts: Path, advance: Callable[[int], None]) -> None:
        done = finished_lines(parts)
        advance(len(done))
        missing = [number for number in range(len(work.prompts)) if number not in done]
        path = parts / f"part-{len(list(parts.glob('part-*.jsonl')))}-0.jsonl"
        with path.open("ab", buffering=0) as file, ThreadPoolExecutor(self.at_once) as pool:

            def ask(numbers: list[int]) -> Iterator[tuple[int, dict[str, Any] | UnreadableReply]]:
                return _in_flight(pool, iter(numbers), lambda number: self._row(server, work, number), self.at_once)

            unread: list[int] = []
            in_a_row = 0
            for number, result in ask(missing):
                if isinstance(result, UnreadableReply):
                    unread.append(number)
                    in_a_row += 1
                    if in_a_row == UNREADABLE:
                        raise InputError(
                            f"the model at {self.url or 'api.openai.com'} gave {UNREADABLE} replies in a row that "
                            f"cannot be read ({result}); look at the server; "
                            "answers so far are kept, run it again to go on"
                        )
                    continue
                in_a_row = 0
                file.write(part_line(number, result))
                advance(1)
            # Once more, when the server has answered everything else; only a run that comes to this end gives any of
            # them up.
            given_up: list[tuple[int, dict[str, Any]]] = []
            for number, result in ask(unread):
                if isinstance(result, UnreadableReply):
                    reason = f"{work.prompts.where(number)}: the server's reply cannot be read ({result})"
                    given_up.append((number, {"response": None, "error": reason}))
                else:
                    file.write(part_line(number, result))
                advance(1)
            file.write(b"".join(part_line(number, row) for number, row in given_up))

    def _row(self, server: ChatServer, work: Work, number: int) -> dict[str, Any] | UnreadableReply:
        try:
            prompt = work.prompts[number]
            reply = self._reply(server, prompt, work, number)
        except BadRecord as error:
            return {"response": None, "error": f"{work.prompts.where(number)}: {error}"}
        except UnreadableReply as error:
            return error
        row = {"response": reply.text, "response_tokens": reply.tokens, "finished": reply.finished}
        return row | {"seed": mixed_seed(work.sampling.seed, number) % 2**31} if work.sampling else row

    def _reply(self, server: ChatServer, prompt: Prompt, work: Work, number: int) -> Reply:
        tiles = prompt.max_tiles or self.max_tiles
        request: dict[str, Any] = {"max_tokens": work.max_new_tokens, **drawn_by(self.kind, work.sampling, number)}
        extra = request.pop("extra_body", {})
        if prompt.begun and not prompt.images:
            self.check_begun(False)
            text = get_template(str(self.template)).prompt(prompt.question) + prompt.begun
            return server.complete(text, **request, extra_body=extra)
        messages: Messages = [
            {"role": "user", "content": content_of(prompt, tiles if self.kind == "lmdeploy" else None)}
        ]
        if prompt.begun:
            self.check_begun(True)
            messages.append({"role": "assistant", "content": prompt.begun})
            extra |= {"continue_final_message": True} | (
                {"add_generation_prompt": False} if self.kind == "vllm" else {}
            )
        if self.kind == "vllm" and prompt.images:
            extra["mm_processor_kwargs"] = {"max_dynamic_patch": max(1, tiles // len(prompt.images))}
        return server.chat(messages, **request, extra_body=extra)


def drawn_by(kind: Kind, sampling: Sampling | None, number: int) -> dict[str, Any]:
    """The fields of a request that say how an answer is drawn.

    Args:
        kind: of the server.
        sampling: None is greedy.
        number: of the answer.
    """
    if sampling is None:
        return {"temperature": 0.0}
    request: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": mixed_seed(sampling.seed, number) % 2**31,
    }
    if not sampling.top_k:
        return request
    if kind == "transformers":
        return request | {"extra_body": {"generation_config": json.dumps({"do_sample": True, "top_k": sampling.top_k})}}
    return request | {"extra_body": {"top_k": sampling.top_k}}


def content_of(prompt: Prompt, tiles: int | None) -> list[dict[str, Any]] | str:
    """A prompt as a message: its texts, and its pictures at their marks.

    Args:
        prompt: the question.
        tiles: most tiles of the pictures, where the server reads it off them.

    Raises:
        BadRecord: a picture cannot be used.
    """
    if not prompt.images:
        return prompt.question
    texts = prompt.question.split(IMAGE_MARK)
    content: list[dict[str, Any]] = []
    for place, text in enumerate(texts):
        if text.strip():
            content.append({"type": "text", "text": text.strip("\n")})
        if place < len(prompt.images):
            picture: dict[str, Any] = {"url": picture_url(prompt.images[place])}
            if tiles is not None:
                picture["max_dynamic_patch"] = max(1, tiles // len(prompt.images))
            content.append({"type": "image_url", "image_url": picture})
    return content


def picture_url(data: bytes) -> str:
    """A picture as a data URL; formats that servers may not know are sent as PNG.

    Raises:
        BadRecord: it cannot be decoded.
    """
    picture = open_picture(data)
    media = {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png"}.get(data[:2])
    if media is None:
        media, data = "image/png", _png(picture)
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


def _in_flight(
    pool: ThreadPoolExecutor, numbers: Iterator[int], function: Callable[[int], Any], at_once: int
) -> Iterator[tuple[int, Any]]:
    """Results as they come, no more than `at_once` under way; at an error what is under way is waited for, and kept
    where it succeeds.
    """
    waiting: dict[Future[Any], int] = {}
    problem: Exception | None = None
    while True:
        while problem is None and len(waiting) < at_once and (number := next(numbers, None)) is not None:
            waiting[pool.submit(function, number)] = number
        if not waiting:
            break
        for done in wait(waiting, return_when=FIRST_COMPLETED).done:
            number = waiting.pop(done)
            failure = done.exception()
            if failure is None:
                yield number, done.result()
            elif isinstance(failure, Exception):
                problem = problem or failure
    if problem is not None:
        raise problem
