"""The engine on a server that is made to fail, with a real model behind it: nothing is lost, nothing asked twice."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpo_lightning.commands.build import build
from mpo_lightning.data.prompts import QuestionFile, Repeated
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.inference import server as server_module
from mpo_lightning.inference.chat import ChatServer, Refused, UnreadableReply
from mpo_lightning.inference.embedded import EmbeddedEngine
from mpo_lightning.inference.engine import Work, open_engine
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.inference.request import content_of, drawn_by, picture_url, tile_fields
from mpo_lightning.inference.server import ServerEngine
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.sources import Source
from support.commands import mpo, mpo_killed_when
from support.judge_server import chat_server
from support.model_server import model_server
from support.options import nested

SAMPLING = Sampling(1.0, 50, 1.0, 7)


@pytest.fixture
def questions(root: Path, tmp_path: Path) -> Path:
    photos = root / "examples/mmpr_sample/images/photos"
    rows = [
        {"id": n, "question": f"What is this, number {n}?", **({"image": "chelsea.jpg"} if n % 2 else {})}
        for n in range(5)
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "chelsea.jpg").write_bytes((photos / "chelsea.jpg").read_bytes())
    return path


def work(questions: Path, samples: int = 3) -> Work:
    return Work(Repeated(QuestionFile(questions), samples), "these", 12, SAMPLING)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own waits between attempts."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    monkeypatch.setattr("mpo_lightning.inference.chat.time.sleep", lambda seconds: None)


def test_answers_come_in_the_order_of_the_prompts(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with model_server(tiny_folder) as (url, requests):
        counts = ServerEngine(url, "tiny", at_once=4, max_tiles=2).answer(work(questions), tmp_path / "out.jsonl")
    rows = rows_of(tmp_path / "out.jsonl")
    assert counts == (15, 0) and [(row["id"], row["sample"]) for row in rows] == [
        (n, k) for n in range(5) for k in range(3)
    ]
    assert (
        all(row["response"] and row["response_tokens"] and row["seed"] for row in rows)
        and len({row["seed"] for row in rows}) == 15
    )
    assert len({row["response"] for row in rows}) > 10 and len(requests) == 15
    asked = next(request for request in requests if request["seed"] == rows[3]["seed"])
    assert (
        asked["temperature"] == 1.0
        and asked["top_k"] == 50
        and asked["max_tokens"] == 12
        and asked["mm_processor_kwargs"] == {"max_patches": 2, "max_dynamic_patch": 2}
    )
    found = json.loads((tmp_path / "out.jsonl.server.json").read_text())
    assert found == {"tile_limit": "request", "prompts_compared": 10, "compared_by": "ids"}
    kinds = [part["type"] for part in asked["messages"][0]["content"]]
    assert kinds == ["image_url", "text"] and asked["messages"][0]["content"][0]["image_url"]["url"].startswith(
        "data:image/jpeg;base64,"
    )


def test_greedy_answers_are_those_of_the_embedded_engine(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    asked = Work(QuestionFile(questions), "these", 12)
    EmbeddedEngine(str(tiny_folder), EngineOptions(max_tiles=2, num_workers=0), TrainerOptions("cpu", "1")).answer(
        asked, tmp_path / "here.jsonl"
    )
    with model_server(tiny_folder) as (url, _):
        ServerEngine(url, "tiny", max_tiles=2).answer(asked, tmp_path / "there.jsonl")
    assert rows_of(tmp_path / "here.jsonl") == rows_of(tmp_path / "there.jsonl")


def test_a_server_that_fails_now_and_then_loses_nothing(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with model_server(tiny_folder) as (url, _):
        ServerEngine(url, "tiny", at_once=1, max_tiles=2).answer(work(questions), tmp_path / "whole.jsonl")
    faults = ["error", None, "busy", "busy", None, "close", "garbage", None, "half", "empty", "cut", None]
    with model_server(tiny_folder, lambda number, request: faults[number % len(faults)]) as (url, requests):
        assert ServerEngine(url, "tiny", at_once=1, max_tiles=2).answer(work(questions), tmp_path / "out.jsonl") == (
            15,
            0,
        )
        assert len(requests) > 30
    # The same seeds: the same answers, whatever came in between.
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_what_the_server_refuses_is_a_line_with_its_reason(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    def fault(number: int, request: dict[str, Any]) -> str | None:
        return "refuse" if "number 2" in json.dumps(request) else "half" if "number 4" in json.dumps(request) else None

    with model_server(tiny_folder, fault) as (url, _):
        assert ServerEngine(url, "tiny", max_tiles=2).answer(work(questions, 2), tmp_path / "out.jsonl") == (10, 4)
    reasons = {row["id"]: row["error"] for row in rows_of(tmp_path / "out.jsonl") if "error" in row}
    assert set(reasons) == {2, 4} and "the server refuses it" in reasons[2] and "cannot be read" in reasons[4]
    assert all(
        "q.jsonl:" in row["where"] and row["response"] is None
        for row in rows_of(tmp_path / "out.jsonl")
        if "error" in row
    )


def test_a_server_that_is_gone_stops_the_run_and_the_next_one_goes_on(
    questions: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with (
        model_server(tiny_folder, lambda number, request: "error" if number >= 6 else None) as (url, _),
        pytest.raises(InputError, match=r"does not answer.*answers so far are kept, run it again to resume"),
    ):
        ServerEngine(url, "tiny", at_once=2, max_tiles=2).answer(work(questions), out)
    assert not out.exists()
    with model_server(tiny_folder) as (other, requests):
        with pytest.raises(InputError, match="was made with server vllm instead of sglang"):
            ServerEngine(other, "tiny", "sglang", max_tiles=2).answer(work(questions), out)
        # The same model on another port goes on with what is there.
        assert ServerEngine(other, "tiny", max_tiles=2).answer(work(questions), out) == (15, 0)
        assert len(requests) == 15 - 6


def test_a_server_that_talks_nonsense_stops_the_run(
    questions: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "UNREADABLE", 3)
    with (
        model_server(tiny_folder, lambda number, request: "garbage") as (url, _),
        pytest.raises(InputError, match="3 replies in a row that cannot be read"),
    ):
        ServerEngine(url, "tiny", max_tiles=2).answer(work(questions), tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="does not answer"):
        ServerEngine("http://127.0.0.1:9/v1", "tiny").answer(work(questions), tmp_path / "gone.jsonl")


def test_replies_that_cannot_be_read_are_asked_for_again_when_all_else_is_answered(
    questions: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nonsense for the first two rounds of attempts about one question; what was read before a stop is kept, what was
    not is asked for again.
    """
    monkeypatch.setattr(ChatServer.__init__, "__defaults__", (180.0, 2, "OPENAI_API_KEY"))
    spoilt = {"left": 3}

    def fault(number: int, request: dict[str, Any]) -> str | None:
        if "number 2" in json.dumps(request) and spoilt["left"]:
            spoilt["left"] -= 1
            return "garbage"
        return None

    with model_server(tiny_folder, fault) as (url, _):
        assert ServerEngine(url, "tiny", at_once=1, max_tiles=2).answer(work(questions, 1), tmp_path / "out.jsonl") == (
            5,
            0,
        )
    assert [row["id"] for row in rows_of(tmp_path / "out.jsonl")] == list(range(5))

    def nonsense_from_2(number: int, request: dict[str, Any]) -> str | None:
        return "garbage" if number >= 2 else None

    monkeypatch.setattr(server_module, "UNREADABLE", 2)
    with model_server(tiny_folder, nonsense_from_2) as (url, _), pytest.raises(InputError, match="2 replies in a row"):
        ServerEngine(url, "tiny", at_once=1, max_tiles=2).answer(work(questions, 1), tmp_path / "again.jsonl")
    lines = [line for part in (tmp_path / "again.jsonl.parts").glob("part-*") for line in rows_of(part)]
    assert [number for number, _ in lines] == [0, 1]  # type: ignore[misc]


def test_unreadable_replies_wait_as_long_as_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("mpo_lightning.inference.chat.time.sleep", waits.append)
    asked = server_that_says([{"choices": []}] * 6)
    with pytest.raises(UnreadableReply, match="a reply without an answer"):
        asked[0].chat([])
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]}, "content filter"),
        (
            {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I will not\nsay."}}]},
            "I will not say.",
        ),
    ],
)
def test_a_refusal_is_taken_at_its_first_word(reply: dict[str, Any], reason: str) -> None:
    server, requests = server_that_says([reply])
    with pytest.raises(BadRecord, match=rf"the server refuses it \({reason}\)"):
        server.chat([])
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reason", "tokens", "finished"),
    [
        ("STOP", 3, True),
        ("end_turn", 3, True),
        ("eos_token", 3, True),
        ("MAX_TOKENS", 3, False),
        (None, 3, True),
        (None, 8, False),  # as many as were asked for
    ],
)
def test_other_spellings_of_the_end_keep_the_text(reason: str | None, tokens: int, finished: bool) -> None:
    choice = {"finish_reason": reason, "message": {"content": "three words there"}}
    server, requests = server_that_says([{"choices": [choice], "usage": {"completion_tokens": tokens}}])
    reply = server.chat([], max_tokens=8)
    assert (reply.text, reply.tokens, reply.finished) == ("three words there", tokens, finished)
    assert len(requests) == 1


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_beside_a_response_are_kept(field: str) -> None:
    message = {"content": "Seven.", field: "Four and three."}
    server, _ = server_that_says([{"choices": [{"finish_reason": "stop", "message": message}]}])
    reply = server.chat([])
    assert (reply.text, reply.reasoning) == ("Seven.", "Four and three.")


@pytest.mark.parametrize(
    ("text", "whole"), [("Four.", "<think>2 + 2</think>\nFour."), ("\n\nFour.", "<think>2 + 2</think>\n\nFour.")]
)
def test_thoughts_stand_in_front_by_choice(tmp_path: Path, text: str, whole: str) -> None:
    def reply(_: dict[str, Any]) -> dict[str, Any]:
        return {"content": text, "reasoning_content": "2 + 2"}

    (tmp_path / "q.jsonl").write_text('{"question": "What is 2 + 2?"}\n')
    asked = Work(QuestionFile(tmp_path / "q.jsonl"), "these", 12)
    with chat_server(reply) as (url, _):
        ServerEngine(url, "tiny", "openai", reasoning="front").answer(asked, tmp_path / "front.jsonl")
        ServerEngine(url, "tiny", "openai").answer(asked, tmp_path / "apart.jsonl")
    assert rows_of(tmp_path / "front.jsonl")[0]["response"] == whole
    (apart,) = rows_of(tmp_path / "apart.jsonl")
    assert apart["response"] == text and apart["reasoning"] == "2 + 2"


def test_thoughts_without_a_response_are_named_with_what_mends_it() -> None:
    message = {"content": None, "reasoning_content": "Let me see"}
    server, requests = server_that_says([{"choices": [{"finish_reason": "length", "message": message}]}])
    with pytest.raises(Refused, match="thoughts and no response: raise the limit of new tokens"):
        server.chat([])
    assert len(requests) == 1


def test_a_server_that_refuses_a_parameter_is_told_after_a_few_prompts(
    questions: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Nothing is written of them, so that the next run asks again."""
    output = tmp_path / "out.jsonl"
    with (
        model_server(tiny_folder, lambda number, request: "refuse") as (url, requests),
        pytest.raises(
            InputError, match=r"refuses the first 8 prompts: the server refuses it .* change what it refuses"
        ),
    ):
        ServerEngine(url, "tiny", at_once=2, max_tiles=2).answer(work(questions), output)
    assert 8 <= len(requests) <= 10
    with model_server(tiny_folder) as (url, _):
        assert ServerEngine(url, "tiny", max_tiles=2).answer(work(questions), output) == (15, 0)


def test_an_answer_without_a_word_is_asked_for_once_more() -> None:
    empty = {"choices": [{"finish_reason": "stop", "message": {"content": ""}}]}
    word = {"choices": [{"finish_reason": "stop", "message": {"content": "word"}}]}
    for replies, text, count in (([empty, word], "word", 2), ([empty, empty, word], "", 2), ([word], "word", 1)):
        server, requests = server_that_says(replies)
        assert server.chat([]).text == text and len(requests) == count


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    said = "so \ud83d, \ud83d\ude00 and \U0001f600"
    server, _ = server_that_says([{"choices": [{"finish_reason": "stop", "message": {"content": said}}]}])
    text = server.chat([]).text
    assert text == "so \ufffd, \U0001f600 and \U0001f600" and text.encode()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, ("status 401: the key is missing or wrong; set the environment variable")),
        (404, ("status 404: there is no model 'm'")),
        (503, "status 503"),
    ],
)
def test_a_status_is_named_with_what_to_do(status: int, words: str) -> None:
    with failing_server(status) as url, pytest.raises(InputError, match=words):
        ChatServer(url, "m", "the model", attempts=1).chat([{"role": "user", "content": "x"}])


def test_a_build_that_could_not_go_on_with_begun_answers_stops_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What is 1 + 1?", "answer": "2"}) + "\n")
    for options, words in (
        ({}, "give --engine.template"),
        ({"engine.template": "nonsense"}, "nonsense"),
        ({"engine.template": "Hermes-2", "dropout.with_image": True, "engine.server": "lmdeploy"}, "cannot continue"),
    ):
        with pytest.raises(InputError, match=words):
            build(
                str(tmp_path / "q.jsonl"),
                str(tmp_path / "out"),
                model="m",
                **nested(build, {"engine.kind": "openai", "engine.url": "http://127.0.0.1:9/v1"} | options),
            )
        assert not (tmp_path / "out").exists()


def server_that_says(replies: list[dict[str, Any]]) -> tuple[ChatServer, list[int]]:
    """A client whose requests are answered with these replies in turn, and a list that grows with each request."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return SimpleNamespace(**{name: named(part) for name, part in value.items()})
        return [named(part) for part in value] if isinstance(value, list) else value

    server, requests = ChatServer("http://127.0.0.1:9/v1", "m", "the model"), []  # type: ignore[var-annotated]

    def create(**_: Any) -> Any:
        requests.append(len(requests))
        return named(replies[len(requests) - 1])

    server._client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))  # type: ignore[assignment]
    return server, requests


@contextmanager
def failing_server(status: int) -> Iterator[str]:
    """The URL of a server that answers everything with a status."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_build_on_a_server_whose_answers_are_recorded_survives_kills(
    root: Path, taught_folder: Path, tmp_path: Path
) -> None:
    """Begun answers too: without the picture as a text completion, with it as an unfinished turn."""
    lines = (root / "examples/mmpr_prompts/diagrams.jsonl").read_text().splitlines()[:9]
    (tmp_path / "diagrams.jsonl").write_text("\n".join(lines) + "\n")
    prompts = str(tmp_path / "diagrams.jsonl")
    options: dict[str, Any] = {
        "images": str(root / "examples/mmpr_sample/images/diagrams"),
        "samples": 4,
        "max_new_tokens": 40,
        "dropout.max_new_tokens": 12,
        "shards": False,
        "workers": 1,
        "sources": [Source(tiles=1, kinds=["as_asked"])],
        "pairing.confidence": 0.5,
    }
    with model_server(taught_folder) as (url, requests):
        engine: dict[str, Any] = {
            "model": "taught",
            "engine.kind": "openai",
            "engine.url": url,
            "engine.template": "Hermes-2",
        }
        build(prompts, str(tmp_path / "whole"), **nested(build, options | engine))
        begun = [request for request in requests if "prompt" in request]
        assert begun and all(
            request["path"] == "/v1/completions" and "<|im_start|>assistant\n" in request["prompt"] for request in begun
        )
        config = tmp_path / "c.yaml"
        config.write_text("sources:\n- {tiles: 1, kinds: [as_asked]}\n")
        words = {
            "prompts": prompts,
            "output": tmp_path / "killed",
            "config": config,
            **{name: value for name, value in (options | engine).items() if name != "sources"},
        }
        command = ["prefs", "build", *(f"--{name}={value}" for name, value in words.items())]
        enough = len(requests) + 12
        assert mpo_killed_when(lambda: len(requests) >= enough, *command) == -signal.SIGKILL
        done = mpo(*command)
        assert done.returncode == 0, done.stderr
        for path in (tmp_path / "whole").rglob("*.json*"):
            assert path.read_bytes() == (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes(), path
        before = len(requests)
        build(prompts, str(tmp_path / "shown"), **nested(build, options | engine | {"dropout.with_image": True}))
        turns = [request for request in requests[before:] if len(request["messages"]) == 2]
        assert turns and all(
            request["continue_final_message"] and not request["add_generation_prompt"] for request in turns
        )


def test_each_kind_of_server_gets_its_own_fields(root: Path) -> None:
    from mpo_lightning.data.prompts import Prompt

    assert drawn_by("openai", None, 0) == {"temperature": 0.0}
    plain = {"min_p": 0.0, "repetition_penalty": 1.0}
    for kind, no_limit in (("vllm", 0), ("sglang", -1), ("lmdeploy", 0)):
        assert drawn_by(kind, SAMPLING, 1)["extra_body"] == plain | {"top_k": 50}
        assert drawn_by(kind, Sampling(top_k=0), 1)["extra_body"] == plain | {"top_k": no_limit}
        assert drawn_by(kind, SAMPLING, 1, [7, 9])["extra_body"]["logit_bias"] == {"7": -100, "9": -100}
        assert drawn_by(kind, None, 1, [7])["extra_body"] == plain
    for top_k in (50, 0):  # without do_sample that server is greedy
        extra = drawn_by("transformers", Sampling(top_k=top_k), 1)["extra_body"]
        assert json.loads(extra["generation_config"]) == {"do_sample": True, "top_k": top_k}
    assert json.loads(drawn_by("transformers", None, 1)["extra_body"]["generation_config"]) == {"do_sample": False}
    assert "extra_body" not in drawn_by("openai", Sampling(top_k=0), 1)
    photo = (root / "examples/mmpr_sample/images/photos/chelsea.jpg").read_bytes()
    asked = Prompt("Image-1: <image>\nImage-2: <image>\nWhich?", (photo, photo))
    two: Any = content_of(asked, 12, own_template=False)
    assert [part.get("text") for part in two] == ["Image-1: ", None, "Image-2: ", None, "Which?"] and two[1][
        "image_url"
    ]["max_dynamic_patch"] == 6
    exact: Any = content_of(asked, None)
    assert [part.get("text") for part in exact] == ["Image-1: ", None, "Image-2: ", None, "Which?"]
    odd: Any = content_of(Prompt("See<image>here<image> there\n", (photo, photo)), None)
    assert [part.get("text") for part in odd] == ["See", None, "", "here", None, " there\n"]
    assert tile_fields("vllm", asked, 5) == {"mm_processor_kwargs": {"max_patches": 2, "max_dynamic_patch": 2}}
    assert tile_fields("vllm", Prompt("Why?"), 5) == tile_fields("sglang", asked, 5) == {}
    assert content_of(Prompt("Why?"), 12) == "Why?" and picture_url(photo).startswith("data:image/jpeg")


def test_engines_that_cannot_be_opened_say_why(
    tiny_folder: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for options, words in (
        ({"kind": "openai"}, "needs --engine.url"),
        ({"url": "http://x"}, "--engine.url is for --engine.kind openai"),
        ({"batch_size": 0}, "--engine.batch_size must be at least 1"),
        ({"timeout": 0.0}, "--engine.timeout above 0"),
    ):
        with pytest.raises(InputError, match=words):
            EngineOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no top_k, and it is 50"):
        open_engine("m", EngineOptions("openai", "openai", "openai"), TrainerOptions()).answer(
            work(questions), tmp_path / "o"
        )
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        open_engine("m", EngineOptions("openai", "openai"), TrainerOptions()).answer(work(questions), tmp_path / "o")


def test_a_system_message_is_a_turn_in_front_and_a_prompts_own_goes_before_it() -> None:
    def turns(message: str, own: str | None = None, template: str | None = None) -> list[str]:
        engine = ServerEngine(None, "model", template=template, system_message=message)
        return [str(turn["content"]) for turn in engine._system_turn(own)]

    assert turns("auto") == turns("none") == [] and turns("Be brief.") == ["Be brief."]
    assert turns("none", own="Think.") == turns("Be brief.", own="Think.") == ["Think."]
    assert turns("default", template="internvl2_5")[0].startswith("你是书生")
    assert turns("thinking", template="internvl2_5")[0].startswith("You are an AI assistant that rigorously")
    with pytest.raises(InputError, match=r"give --engine\.template"):
        turns("default")
