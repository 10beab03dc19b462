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


class Answering:
    """The model and what it was asked."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.processor = load_processor(str(folder))
        self.model = freeze(load_model(str(folder), torch.float32))
        self.forbidden = forbidden_ids(
            self.processor.tokenizer, self.processor.template, self.model.config.text_config.vocab_size
        )
        self.fault, self.requests, self.lock = fault, [], threading.Lock()  # type: ignore[var-annotated]

    def encoded(self, request: dict[str, Any]) -> EncodedPrompt:
        encoder = self.processor.encoder(
            request.get("mm_processor_kwargs", {}).get("max_dynamic_patch", 12), 4096, "set_aside"
        )
        if "prompt" in request:
            return EncodedPrompt(
                torch.tensor(self.processor.tokenizer(request["prompt"]).input_ids),
                torch.empty(0, 3, 112, 112, dtype=torch.uint8),
            )
        content, images = request["messages"][0]["content"], []
        if isinstance(content, list):
            texts = []
            for part in content:
                if part["type"] == "image_url":
                    images.append(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
                    texts.append("<image>")
                else:
                    texts.append(part["text"])
            content = "\n".join(texts)
        begun = request["messages"][1]["content"] if len(request["messages"]) > 1 else ""
        assert not begun or request["continue_final_message"]
        return encode_prompt(encoder, Prompt(content, tuple(images), None, {}, begun))

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        sampling = (
            Sampling(request.get("temperature", 1.0), request.get("top_k", 0), request.get("top_p", 1.0))
            if request.get("temperature")
            else None
        )
        draws = Draws(sampling, [request["seed"]], self.forbidden) if sampling else None
        with self.lock:
            (answer,) = generate(
                self.model, self.processor, pad_prompts([self.encoded(request)]), request["max_tokens"], draws=draws
            )
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if answer.finished else "length"}
        choice |= (
            {"text": answer.text} if "prompt" in request else {"message": {"role": "assistant", "content": answer.text}}
        )
        usage = {"prompt_tokens": 1, "completion_tokens": answer.tokens, "total_tokens": 1 + answer.tokens}
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
    folder: Path, fault: Fault = lambda number, request: None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server's URL, and the requests it got."""
    answering = Answering(folder, fault)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
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
