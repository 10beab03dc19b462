"""A server that speaks OpenAI's protocol, with a real model behind it: chats with pictures, unfinished last turns, text
completions, top_k and seeds.

It reads pictures out of data URLs and answers with `generate`; an answer depends on its request alone. A test may make
it misbehave, by the number of the request.
"""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from mpo_lightning.data.prompts import Prompt
from mpo_lightning.models.draws import Draws, forbidden_ids
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.generation import EncodedPrompt, encode_prompt, generate, pad_prompts
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.sampling import Sampling

Fault = Callable[[int, dict[str, Any]], str | None]
"""What goes wrong with a request, by its number: error, busy, refuse, garbage, half, empty, close; None is nothing."""


NO_LIMITS = (
    "Per-request mm_processor_kwargs are disabled by default because they can change multimodal preprocessing resource "
    "usage. Start the server with --trust-request-mm-kwargs only when clients are trusted."
)
"""What vLLM 0.32 says."""


class Answering:
    """The model and what it was asked."""

    def __init__(self, folder: Path, fault: Fault, own_limit: int | None) -> None:
        self.processor = load_processor(str(folder))
        self.model = freeze(load_model(str(folder), torch.float32))
        self.forbidden = forbidden_ids(
            self.processor.tokenizer, self.processor.template, self.model.config.text_config.vocab_size
        )
        self.own_limit = own_limit
        self.fault, self.requests, self.lock = fault, [], threading.Lock()  # type: ignore[var-annotated]

    def encoded(self, request: dict[str, Any]) -> EncodedPrompt:
        if "prompt" in request:
            return EncodedPrompt(
                torch.tensor(self.processor.tokenizer(request["prompt"]).input_ids),
                torch.empty(0, 3, 112, 112, dtype=torch.uint8),
            )
        content, images = request["messages"][0]["content"], []
        each = self.own_limit or request.get("mm_processor_kwargs", {}).get("max_dynamic_patch", 12)
        if isinstance(content, list):
            texts = []
            for part, behind in zip(content, [*content[1:], None], strict=True):
                if part["type"] == "image_url":
                    each = part["image_url"].get("max_dynamic_patch", each)
                    images.append(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
                    # The newline that the chat template of a folder adds.
                    bare = behind is not None and (text := behind.get("text", "x")) and text == text.lstrip()
                    texts.append("<image>\n" if bare else "<image>")
                else:
                    texts.append(part["text"])
            content = "".join(texts)
        begun = request["messages"][1]["content"] if len(request["messages"]) > 1 else ""
        assert not begun or request["continue_final_message"]
        encoder = self.processor.encoder(each * max(1, len(images)), 4096, "set_aside")
        return encode_prompt(encoder, Prompt(content, tuple(images), None, {}, begun))

    def tokenized(self, request: dict[str, Any]) -> dict[str, Any]:
        """vLLM's `/tokenize`."""
        ids = self.encoded(request).ids.tolist()
        return {"count": len(ids), "tokens": ids}

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        sampling = (
            Sampling(request.get("temperature", 1.0), request.get("top_k", 0), request.get("top_p", 1.0))
            if request.get("temperature")
            else None
        )
        draws = Draws(sampling, [request["seed"]], self.forbidden) if sampling else None
        encoded = self.encoded(request)
        with self.lock:
            (answer,) = generate(self.model, self.processor, pad_prompts([encoded]), request["max_tokens"], draws=draws)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if answer.finished else "length"}
        choice |= (
            {"text": answer.text} if "prompt" in request else {"message": {"role": "assistant", "content": answer.text}}
        )
        usage = {"prompt_tokens": len(encoded.ids), "completion_tokens": answer.tokens}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [choice],
            "usage": usage,
        }


@contextmanager
def model_server(
    folder: Path, fault: Fault = lambda number, request: None, own_limit: int | None = None, root: str | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server's URL, and the requests it got.

    Args:
        folder: the model.
        fault: what goes wrong with a request.
        own_limit: tile limit of each image; the server takes none from requests then, as vLLM by default.
        root: folder that it says it serves; None is the model's.
    """
    answering = Answering(folder, fault, own_limit)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            served = {"id": "tiny", "object": "model", "created": 0, "owned_by": "test", "root": root or str(folder)}
            self.send(200, json.dumps({"object": "list", "data": [served]}).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if own_limit and "mm_processor_kwargs" in request:
                return self.send(400, json.dumps({"error": {"message": NO_LIMITS}}).encode())
            if self.path == "/tokenize":
                return self.send(200, json.dumps(answering.tokenized(request)).encode())
            with answering.lock:
                answering.requests.append(request | {"path": self.path})
                number = len(answering.requests) - 1
            fault = answering.fault(number, request)
            if fault == "close":
                self.close_connection = True
                return
            status = {"error": 500, "busy": 429, "refuse": 400}.get(fault or "", 200)
            body = {"error": {"message": fault}} if status != 200 else answering.reply(request)
            if fault == "empty":
                body["choices"] = []
            if fault == "cut":
                body["choices"][0]["finish_reason"] = None
            content = json.dumps(body).encode()
            content = (
                b"<html>busy</html>"
                if fault == "garbage"
                else content[: len(content) // 2]
                if fault == "half"
                else content
            )
            self.send(status, content)

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", answering.requests
    finally:
        server.shutdown()
        server.server_close()
