"""Commands and ranks as processes of their own, from a fork server that has the large imports.

Each has a process, a working folder, an environment and outputs of its own; the imports are what is saved. Tests about
signals, locks and launchers start real processes instead (`support.processes`).
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from mpo_lightning import cli
from mpo_lightning.runs.lock import RunLock
from support.processes import QUIET, TESTS, free_port

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = [
    "mpo_lightning.commands.fit",
    "mpo_lightning.commands.run",
    "mpo_lightning.inference.predict",
    "mpo_lightning.evals",
    "mpo_lightning.prefs",
]


def mpo(*words: object, cwd: Path | None = None, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns its exit code and outputs; fails after `seconds`."""
    return _run([("mpo", {})], words, cwd or Path.cwd(), seconds)


def ranks(
    count: int, program: str, *words: object, cwd: Path = TESTS, seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Runs `mpo`, or a module or file, in as many processes, with the environment that torchrun gives them.

    Returns:
        The first exit code that is not 0, and the outputs in the order of ranks; fails after `seconds`.
    """
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        **QUIET,
    }
    programs = [(program, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)]
    return _run(programs, words, cwd, seconds)


def mpo_killed_when(ready: Callable[[], bool], *words: object, seconds: float = 120) -> int:
    """Runs a command until it ends, or kills it as soon as it is `ready`; fails after `seconds`.

    Returns:
        The exit code; -9 if it was killed.
    """
    with _begun([("mpo", {})], words, Path.cwd()) as ((process,), _):
        end = time.monotonic() + seconds
        while process.exitcode is None and not ready():
            assert time.monotonic() < end, f"not ready after {seconds} seconds"
            time.sleep(0.005)
        process.kill()
        process.join()
    return process.exitcode or 0


@contextmanager
def another_run(folder: Path) -> Iterator[bool]:
    """A process that takes the lock of a run folder, as another run does; whether it got it."""
    SERVER.set_forkserver_preload(PRELOADED)
    ours, theirs = SERVER.Pipe()
    process = SERVER.Process(target=_hold, args=(folder, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _hold(folder: Path, connection: Connection) -> None:
    lock = RunLock(folder)
    connection.send(lock.alone())
    connection.recv()


def _run(
    programs: list[tuple[str, dict[str, str]]], words: tuple[object, ...], cwd: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    with _begun(programs, words, cwd) as (processes, outputs):
        end = time.monotonic() + seconds
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in processes]
        texts = ["".join(path.read_text(errors="replace") for path in files) for files in zip(*outputs, strict=True)]
    assert None not in codes, f"not ended after {seconds} seconds: {texts}"
    return subprocess.CompletedProcess(list(map(str, words)), next(filter(None, codes), 0), *texts)


@contextmanager
def _begun(
    programs: list[tuple[str, dict[str, str]]], words: tuple[object, ...], cwd: Path
) -> Iterator[tuple[list[BaseProcess], list[list[Path]]]]:
    """The processes, and the files of their outputs; those that still live are killed when the block ends."""
    SERVER.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [[Path(folder) / f"{name}{place}" for name in ("stdout", "stderr")] for place in range(len(programs))]
        for files in outputs:
            for path in files:
                path.touch()
        processes: list[BaseProcess] = [
            SERVER.Process(target=_child, args=(program, list(map(str, words)), environment, files, cwd))
            for (program, environment), files in zip(programs, outputs, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            yield processes, outputs
        finally:
            for process in processes:
                process.kill()
                process.join()


def _child(program: str, words: list[str], environment: dict[str, str], outputs: list[Path], cwd: Path) -> None:
    """What a process does."""
    # Loader workers start as they do under `mpo` itself.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(cwd)
    for stream, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(environment)
    _as_if_imported_here()
    sys.argv = [program, *words]
    try:
        if program == "mpo":
            cli.main()
        elif program.endswith(".py"):
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a child of multiprocessing leaves them out


def _as_if_imported_here() -> None:
    """Sets what modules read of a process when they are imported, which the fork server did."""
    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from mpo_lightning.runs import rank

    rank.STARTER = os.getppid()
    rank_zero_only.rank = int(os.environ.get("RANK", "0"))
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
