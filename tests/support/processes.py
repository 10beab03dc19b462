"""Several processes in a test: a free port, a group of their own, a hard time limit, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose whole group is killed when the block ends, stopped processes too."""
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace",
                                "start_new_session": True, "env": os.environ | QUIET}  # fmt: skip
    process = subprocess.Popen(command, **(settings | options))
    try:
        yield process
    finally:
        # Children may have groups of their own, but not sessions.
        for pid in (*session(process.pid), process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def session(number: int) -> list[int]:
    """Processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    """Its output; fails if it takes longer."""
    output, _ = process.communicate(timeout=seconds)
    return output


def torchrun(processes: int, *arguments: str, seconds: float = 300) -> str:
    """Runs a module or file in several processes and returns their output."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_addr=127.0.0.1",
               f"--master_port={free_port()}", *arguments]  # fmt: skip
    with started(*command, cwd=TESTS, env=os.environ | QUIET | {"PYTHONPATH": str(TESTS)}) as process:
        output = finish(process, seconds)
        assert process.returncode == 0, output[-5000:]
    return output


def wait_for(what: Any, seconds: float) -> None:
    """Until it is true; fails after a time."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"nothing after {seconds} seconds"
        time.sleep(0.02)
