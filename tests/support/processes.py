"""Several processes in a test: a free port, a group of their own, a hard time limit, and nothing left behind."""

import fnmatch
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
MARK = "MPO_LIGHTNING_TEST"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONFAULTHANDLER": "1"}


def free_port() -> int:
    """Below those that the system gives to connections, one of which would have it before a process has started that is
    to listen there.
    """
    for port in random.SystemRandom().sample(range(10_000, 32_000), 100):
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextmanager
def started(*command: str, env: dict[str, str] | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed when the block ends with all that it started, stopped ones and those in sessions of
    their own too.
    """
    settings: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "errors": "replace",
        "start_new_session": True,
    }
    mark = f"started-{uuid.uuid4().hex}"
    process = subprocess.Popen(command, env=os.environ | QUIET | (env or {}) | {MARK: mark}, **(settings | options))
    process.mark = mark  # type: ignore[attr-defined]
    try:
        yield process
    finally:
        for pid in members(process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=30)
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def members(process: subprocess.Popen[str], local_rank: int | None = None) -> list[int]:
    """The process and all that it started, directly or not, as far as they live; or those of a rank that a launcher
    started.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        of_rank = local_rank is None or f"LOCAL_RANK={local_rank}" in words
        if f"{MARK}={process.mark}" in words and of_rank:  # type: ignore[attr-defined]
            found.append(int(path.name))
    return found


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    """Its output; if it takes longer, fails with what it printed so far and where each of its processes is."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        for pid in members(process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # faulthandler prints the stacks
        output, _ = process.communicate(timeout=30)
        raise AssertionError(f"not ended after {seconds} seconds:\n{output[-20_000:]}") from None


def run_apart(*command: str, seconds: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with both outputs captured, of a command that starts processes of its own."""
    with started(*command, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def torchrun(processes: int, *arguments: str, seconds: float = 300) -> str:
    """Runs a module or file in several processes and returns their output."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={processes}",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
        *arguments,
    ]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    with started(*command, cwd=TESTS, env={"PYTHONPATH": path}) as process:
        output = finish(process, seconds)
        assert process.returncode == 0, output[-5000:]
    return output


def wait_for(what: Any, seconds: float) -> None:
    """Until it is true; fails after a time."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"nothing after {seconds} seconds"
        time.sleep(0.02)


def bytes_below(folder: Path, pattern: str = "*") -> int:
    """Of files that a process is writing, which renames and removes some of them meanwhile."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in fnmatch.filter(names, pattern):
            with suppress(FileNotFoundError):
                found += (Path(place) / name).stat().st_size
    return found
