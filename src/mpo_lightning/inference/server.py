"""The server engine: many concurrent requests to a server with OpenAI's protocol, each response stored as it arrives.

OpenAI's protocol has no field for top-k sampling or for the maximum tiles of an image. Each kind of server takes them
in its own way (see `request`). To continue a started response without an image, the engine sends a plain
text completion with the model's chat template, which works with every server. With an image it sends an unfinished last
turn, which vLLM and SGLang support.

Each response has its own seed, made from the run's seed and the response's number. Whether equal seeds give equal
responses depends on the server. All responses are stored on disk, so that everything computed from them can be
repeated.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from mpo_lightning.data.chat_template import NAMED_SYSTEMS
from mpo_lightning.data.pictures import Pixels
from mpo_lightning.data.prompts import Prompt, Prompts
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.whole import write_json
from mpo_lightning.inference.answer_file import begin, finish, finished_lines, part_line, parts_lock, parts_of
from mpo_lightning.inference.chat import ChatServer, Messages, Refused, Reply, UnreadableReply
from mpo_lightning.inference.engine import Progress, Work, no_progress
from mpo_lightning.inference.options import OnDifference, Reasoning
from mpo_lightning.inference.request import EXACT, Kind, content_of, drawn_by
from mpo_lightning.inference.server_check import ServerCheck, Serving
from mpo_lightning.models.draws import mixed_seed
from mpo_lightning.models.family import get_template

REQUESTS = 2
"""Version of what is sent: 2 is exact texts and all sampling fields. A run resumes with the same alone."""
REFUSED = 8
"""Number of prompts, from the first on, that are all refused before the run ends: a parameter is at fault then."""
HOTTEST = 2.0
"""Highest temperature of OpenAI's protocol."""
UNREADABLE = 20
"""Number of consecutive unreadable replies that ends a run: the server is at fault then, not the prompts."""


@dataclass(frozen=True)
class ServerEngine:
    """Engine that sends prompts to a server with OpenAI's protocol.

    Attributes:
        url: URL of the server, ending in /v1; None is OpenAI's.
        model: name of the model to request.
        kind: kind of the server.
        template: name of the model's chat template; needed to continue started responses.
        system_message: see `EngineOptions`.
        at_once: number of concurrent requests.
        timeout: seconds until a request counts as failed and is sent again.
        max_tiles: maximum tiles for a prompt's images, on servers that support it; a prompt's own limit replaces it.
        pixels: whether images are sent as a person sees them, or with the reference's pixels.
        checkpoint: folder of the model that is served, whose prompts the server's are compared with.
        on_difference: whether a difference stops the run, or is only said.
        reasoning: whether thoughts that come apart are kept beside a response or in front of it.
        progress: opens the progress bar of the responses.
    """

    url: str | None
    model: str
    kind: Kind = "vllm"
    template: str | None = None
    system_message: str = "auto"
    at_once: int = 32
    timeout: float = 600.0
    max_tiles: int = 12
    pixels: Pixels = "seen"
    checkpoint: str | None = None
    on_difference: OnDifference = "stop"
    reasoning: Reasoning = "apart"
    progress: Progress = no_progress

    @property
    def exact_seams(self) -> bool:
        return False

    def description(self) -> dict[str, Any]:
        # The address is left out, because the same model may be served elsewhere next time.
        return {
            "server": self.kind,
            "requests": REQUESTS,
            "model": self.model,
            "template": self.template,
            "max_tiles": self.max_tiles,
            **({} if self.pixels == "seen" else {"pixels": self.pixels}),
            **({} if self.system_message == "auto" else {"system_message": self.system_message}),
            **({} if self.reasoning == "apart" else {"reasoning": self.reasoning}),
        }

    def check_begun(self, with_picture: bool) -> None:
        if not with_picture and self.template is None:
            raise InputError(
                "to continue an answer the server engine needs the model's chat template; give --engine.template"
            )
        if not with_picture:
            get_template(str(self.template))
        elif self.kind not in ("vllm", "sglang"):
            raise InputError(
                f"a server of kind {self.kind} cannot continue an answer about an image; vllm and sglang can, and "
                "so can the embedded engine"
            )

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        if self.kind == "openai" and work.sampling is not None and work.sampling.top_k:
            raise InputError(
                f"OpenAI's own protocol has no top_k, and it is {work.sampling.top_k}; set it to 0, or give the "
                "kind of server"
            )
        server = ChatServer(self.url, self.model, "the model", self.timeout)
        if self.kind in ("vllm", "openai") and work.sampling is not None and work.sampling.temperature > HOTTEST:
            raise InputError(
                f"a server of kind {self.kind} takes temperatures up to {HOTTEST}, and it is "
                f"{work.sampling.temperature}; lower --sampling.temperature"
            )
        drawn = asdict(work.sampling) if work.sampling else None
        asked = {"prompts": work.asked, "max_new_tokens": work.max_new_tokens, "sampling": drawn}
        settings = self.description() | asked
        if output.exists() or parts_of(output).exists():
            begin(output, settings)  # other settings are refused before the server is asked
        serving = self.serving(server, work.prompts)
        parts = begin(output, settings)
        record = output.with_name(f"{output.name}.server.json")
        lock = parts_lock(output)
        try:
            with lock:
                write_json(record, serving.record())
                with self.progress("responses", len(work.prompts)) as advance:
                    self._ask_missing(server, serving, work, parts, advance)
                counts = finish(parts, work.prompts, output)
        except Timeout:
            raise InputError(
                f"{output}: another run is writing it; wait for it to end, or choose another output"
            ) from None
        Path(lock.lock_file).unlink(missing_ok=True)
        return counts

    def _ask_missing(
        self, server: ChatServer, serving: Serving, work: Work, parts: Path, advance: Callable[[int], None]
    ) -> None:
        done = finished_lines(parts)
        advance(len(done))
        missing = [number for number in range(len(work.prompts)) if number not in done]
        path = parts / f"part-{len(list(parts.glob('part-*.jsonl')))}-0.jsonl"
        with path.open("ab", buffering=0) as file, ThreadPoolExecutor(self.at_once) as pool:

            def ask(numbers: list[int]) -> Iterator[tuple[int, dict[str, Any] | Refused | UnreadableReply]]:
                return _in_flight(
                    pool, iter(numbers), lambda number: self._row(server, serving, work, number), self.at_once
                )

            unread: list[int] = []
            held: list[bytes] = []
            answered, in_a_row = len(done), 0
            for number, result in ask(missing):
                if isinstance(result, UnreadableReply):
                    unread.append(number)
                    in_a_row += 1
                    if in_a_row == UNREADABLE:
                        raise InputError(
                            f"the model at {self.url or 'api.openai.com'} gave {UNREADABLE} replies in a row that "
                            f"cannot be read ({result}); check the server; "
                            "answers so far are kept, run it again to resume"
                        )
                    continue
                in_a_row = 0
                held.append(part_line(number, _written(result, work.prompts.where(number))))
                if isinstance(result, Refused) and not answered:
                    # Not written yet: if all are refused, the next run asks again.
                    if len(held) == REFUSED:
                        raise InputError(
                            f"the model at {self.url or 'api.openai.com'} refuses the first {REFUSED} prompts: "
                            f"{result}; change what it refuses (a sampling option, the limit of new tokens, the kind "
                            "of server) and run it again"
                        )
                    continue
                answered += 1
                file.write(b"".join(held))
                advance(len(held))
                held.clear()
            file.write(b"".join(held))
            advance(len(held))
            # Unreadable ones are requested once more, after everything else; only a run that gets here gives them up.
            given_up: list[tuple[int, dict[str, Any]]] = []
            for number, result in ask(unread):
                if isinstance(result, UnreadableReply):
                    reason = f"{work.prompts.where(number)}: the server's reply cannot be read ({result})"
                    given_up.append((number, {"response": None, "error": reason}))
                else:
                    file.write(part_line(number, _written(result, work.prompts.where(number))))
                advance(1)
            file.write(b"".join(part_line(number, row) for number, row in given_up))

    def _row(
        self, server: ChatServer, serving: Serving, work: Work, number: int
    ) -> dict[str, Any] | Refused | UnreadableReply:
        try:
            prompt = work.prompts[number]
            reply = self._reply(server, serving, prompt, work, number)
        except (Refused, UnreadableReply) as problem:
            return problem
        except BadRecord as error:
            return {"response": None, "error": f"{work.prompts.where(number)}: {error}"}
        text = reply.with_thoughts if self.reasoning == "front" else reply.text
        row = {"response": text, "response_tokens": reply.tokens, "finished": reply.finished}
        row |= {"reasoning": reply.reasoning} if reply.reasoning and self.reasoning == "apart" else {}
        return row | {"seed": mixed_seed(work.sampling.seed, number) % 2**31} if work.sampling else row

    def _reply(self, server: ChatServer, serving: Serving, prompt: Prompt, work: Work, number: int) -> Reply:
        drawn = drawn_by(self.kind, work.sampling, number, serving.forbidden)
        request: dict[str, Any] = {"max_tokens": work.max_new_tokens, **drawn}
        extra = request.pop("extra_body", {})
        if prompt.begun and not prompt.images:
            self.check_begun(False)
            template = get_template(str(self.template), self.system_message)
            text = template.prompt(prompt.question, prompt.system) + template.begun(prompt.begun)
            return server.complete(text, **request, extra_body=extra)
        messages = self.messages(prompt)
        if prompt.begun:
            self.check_begun(True)
            messages.append({"role": "assistant", "content": prompt.begun})
            extra |= {"continue_final_message": True} | (
                {"add_generation_prompt": False} if self.kind == "vllm" else {}
            )
        extra |= serving.tile_fields(self.kind, prompt)
        if serving.tile_limit == "server" and serving.prompts and not serving.prompts.same_tiles(prompt):
            flag = "; serve with --trust-request-mm-kwargs" if self.kind == "vllm" else ""
            raise Refused(
                f"it has several images or a tile limit of its own, and the server takes no limit from a request{flag}"
            )
        return server.chat(messages, **request, extra_body=extra)

    def messages(self, prompt: Prompt) -> Messages:
        """Returns the turns of a prompt: its system message if the server gets one, and the question."""
        tiles = prompt.max_tiles or self.max_tiles if self.kind in ("lmdeploy", "sglang") else None
        content = content_of(prompt, tiles, self.pixels, own_template=self.kind in EXACT)
        return [*self._system_turn(prompt.system), {"role": "user", "content": content}]

    def serving(self, server: ChatServer, prompts: Prompts | None = None) -> Serving:
        """Compares the server's prompts with the trainer's; see `ServerCheck`."""
        check = ServerCheck(
            server,
            self.kind,
            self.max_tiles,
            self.template or "auto",
            self.system_message,
            self.checkpoint,
            self.pixels,
            self.on_difference,
        )
        return check.serving(self.messages, prompts)

    def _system_turn(self, own: str | None) -> Messages:
        """Returns the turn of a system message: the prompt's own, else the one that the options name."""
        text = own or self.system_message
        if own is None and text in ("auto", "none"):
            return []
        if own is None and text in NAMED_SYSTEMS:
            if self.template is None:
                raise InputError(
                    f"the system message '{text}' is a template's; give --engine.template with the model's"
                )
            text = get_template(self.template, text).system_message
        return [{"role": "system", "content": text}]


def _written(result: dict[str, Any] | Refused, where: str) -> dict[str, Any]:
    """Returns the row of a response, or of a refusal with its reason."""
    return {"response": None, "error": f"{where}: {result}"} if isinstance(result, Refused) else result


def _in_flight(
    pool: ThreadPoolExecutor, numbers: Iterator[int], function: Callable[[int], Any], at_once: int
) -> Iterator[tuple[int, Any]]:
    """Yields results as they arrive, with at most `at_once` calls running.

    On an error it waits for the running calls and yields their results first.
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
