"""Real servers where their environments are given (`make servers`), else what they said then, request by request.

With MPO_VLLM or MPO_TRANSFORMERS, the folder of an environment, the server is started, and each request and reply
passes through a proxy, which writes them to tests/recorded/. Without, a server says them again; it refuses a request
that was not recorded, so that a change of ours which a real server has not seen fails.
"""

import base64
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

RECORDED = Path(__file__).parents[1] / "recorded"
VARIABLES = {"vllm": "MPO_VLLM", "transformers": "MPO_TRANSFORMERS"}
START_SECONDS = 600


def command_of(kind: str, environment: Path, folder: Path, port: int, options: list[str]) -> list[str]:
    """The command that serves a folder on a CPU."""
    address = ["--host", "127.0.0.1", "--port", str(port)]
    if kind == "transformers":
        start = [str(environment / "bin/transformers"), "serve", str(folder), *address]
        return [*start, "--device", "cpu", "--dtype", "float32", *options]
    start = [str(environment / "bin/vllm"), "serve", str(folder), *address, "--dtype", "float32", "--enforce-eager"]
    return [*start, "--max-num-seqs", "16", "--max-model-len", "4096", "--served-model-name", "tiny", *options]


@contextmanager
def started(kind: str, environment: Path, folder: Path, options: list[str]) -> Iterator[str]:
    """The address of a real server, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    quiet |= {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command_of(kind, environment, folder, port, options),
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet,
        stdin=subprocess.DEVNULL,
        stdout=(folder / "server.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/v1/models", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def key_of(method: str, path: str, body: bytes, folder: Path) -> str:
    """What a request asks, without what differs between machines: folders, and the bytes of an image's compression."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        if isinstance(value, str) and value.startswith("data:image/"):
            data = base64.b64decode(value.partition(",")[2])
            pixels = Image.open(BytesIO(data)).convert("RGB").tobytes() if value.startswith("data:image/png") else data
            return hashlib.sha256(pixels).hexdigest()[:16]
        return "FOLDER" if value == str(folder) else value

    return f"{method} {path} {json.dumps(plain(json.loads(body or b'null')), sort_keys=True)}"


@contextmanager
def real_server(kind: str, name: str, folder: Path, options: list[str]) -> Iterator[str]:
    """The URL of a real server of a kind that serves a folder, or of one that says what that one said."""
    path = RECORDED / f"{kind}_{name}.json"
    environment = os.environ.get(VARIABLES[kind])
    if environment:
        replies: dict[str, Any] = {}
        with started(kind, Path(environment), folder, options) as address, _listening(folder, replies, address) as url:
            yield url
        path.parent.mkdir(exist_ok=True)
        recorded = dict(sorted(replies.items()))
        path.write_text(json.dumps({"options": options, "replies": recorded}, indent=0, ensure_ascii=False) + "\n")
    else:
        found = json.loads(path.read_text())
        assert found["options"] == options
        with _listening(folder, found["replies"], None) as url:
            yield url


@contextmanager
def _listening(folder: Path, replies: dict[str, Any], address: str | None) -> Iterator[str]:
    """A server that records what a real one at an address says, or says it again."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self.pass_on("GET")

        def do_POST(self) -> None:
            self.pass_on("POST")

        def pass_on(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            key = key_of(method, self.path, body, folder)
            if address is not None:
                replies[key] = _asked(method, f"{address}{self.path}", body, folder)
            missing = [400, {"error": {"message": f"not recorded, see tests/support/real_servers.py: {key[:3000]}"}}]
            status, reply = replies.get(key, missing)
            content = json.dumps(reply).replace('"FOLDER"', json.dumps(str(folder))).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _asked(method: str, url: str, body: bytes, folder: Path) -> list[Any]:
    request = urllib.request.Request(url, body or None, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            status, content = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return [status, json.loads(content.replace(json.dumps(str(folder)).encode(), b'"FOLDER"'))]
    except ValueError:
        return [status, {"error": {"message": content.decode(errors="replace")[:1000]}}]
