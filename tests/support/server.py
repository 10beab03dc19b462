"""An HTTP server on loopback that misbehaves when told to."""

import threading
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Faults:
    """What goes wrong, by the end of a path: a list of faults, one taken at each request.

    error: status 500; refused: status 403; cut: half of the bytes; lie: all of them, one changed; more: the bytes
    twice; stall: half, then silence; trickle: byte after byte; close: no answer; loop: a redirection to itself; page:
    another text.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, list[str]] = defaultdict(list)
        self.requests: Counter[str] = Counter()
        self.release = threading.Event()
        self.password = ""

    def take(self, path: str) -> str | None:
        for end, faults in self.waiting.items():
            if path.endswith(end) and faults:
                return faults.pop(0)
        return None


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args, faults: Faults, **kwargs) -> None:
        self.faults = faults
        super().__init__(*args, **kwargs)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.faults.requests[self.path.rpartition("/")[2]] += 1
        path = Path(self.translate_path(self.path))
        fault = self.faults.take(self.path)
        if (
            self.faults.password
            and self.headers.get("Authorization") != f"Basic {b64encode(self.faults.password.encode()).decode()}"
        ):
            return self.send_error(401)
        if fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            return self.end_headers()
        if fault == "error":
            return self.send_error(500)
        if fault == "refused":
            return self.send_error(403)
        if not path.is_file():
            return self.send_error(404)
        if fault == "close":
            self.close_connection = True
            return None
        content = path.read_bytes()
        content = b"<html>Please log in</html>" if fault == "page" else content
        sent = {"lie": bytes([content[0] ^ 1]) + content[1:], "more": content * 2}.get(fault or "", content)
        self.send_response(200)
        if fault == "more":
            self.close_connection = True  # an answer without a length
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            if fault == "trickle":
                for place in range(0, len(sent)):
                    self.wfile.write(sent[place : place + 1])
                    self.wfile.flush()
                    if self.faults.release.wait(0.1):
                        break
                return None
            self.wfile.write(sent[: len(sent) // 2] if fault in ("cut", "stall") else sent)
            if fault == "stall":
                self.wfile.flush()
                self.faults.release.wait(30)
        except OSError:
            self.close_connection = True
        if fault in ("cut", "stall"):
            self.close_connection = True
        return None


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Faults]]:
    """The folder's URL, and its faults."""
    faults = Faults()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder), faults=faults))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        faults.release.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
