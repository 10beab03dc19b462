"""Runs `mpo` commands, some at a time, each in a process of its own with its output in a log.

A command whose result exists is not run again.

Processes come from a fork server that has imported the libraries once, which saves ten seconds a command; otherwise it
is the command `mpo` itself.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mpo_lightning.commands.display.progress import progress_bar

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = [
    "mpo_lightning.commands.fit",
    "mpo_lightning.commands.run",
    "mpo_lightning.evals.registry",
    "mpo_lightning.inference.predict",
]


@dataclass(frozen=True)
class Command:
    """One `mpo` command.

    Attributes:
        name: name of its log.
        words: the words after `mpo`.
        result: a pattern of files below the study's folder; something matches it when the command is done.
        threads: number of threads of its arithmetic.
    """

    name: str
    words: Sequence[object]
    result: str
    threads: int = 1


def run_all(folder: Path, commands: Sequence[Command], label: str, at_once: int = 2) -> None:
    """Runs the commands whose results do not exist, `at_once` at a time.

    Raises:
        SystemExit: one failed; names its log. Running commands end first.
    """
    waiting = [command for command in commands if not done(folder, command)]
    with progress_bar(label, len(commands), "commands") as advance, ThreadPoolExecutor(at_once) as pool:
        advance(len(commands) - len(waiting))
        for failed in pool.map(lambda command: _run(folder, command, advance), waiting):
            if failed is not None:
                pool.shutdown(cancel_futures=True)
                raise SystemExit(failed)


def done(folder: Path, command: Command) -> bool:
    """Whether a command's result exists."""
    return any(folder.glob(command.result))


def _run(folder: Path, command: Command, advance: Callable[..., None]) -> str | None:
    log = folder / "logs" / f"{command.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command.words]
    # Threads that wait must not spin: the other command needs the core.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    SERVER.set_forkserver_preload(PRELOADED)
    started = time.monotonic()
    process = SERVER.Process(target=_mpo, args=(words, str(log), command.threads))
    process.start()
    process.join()
    seconds = time.monotonic() - started
    if process.exitcode != 0 or not done(folder, command):
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return (
            f"mpo {' '.join(words)} ended with code {process.exitcode} ({''.join(tail)[-300:]}); {log} has more, "
            "and another start resumes here"
        )
    with (folder / "commands.log").open("a", encoding="utf-8") as file:
        file.write(f"{seconds:8.1f} s  OMP_NUM_THREADS={command.threads} mpo {' '.join(words)}\n")
    advance(1)
    return None


def _end_with_parent() -> None:
    """Ends this process when the one that asked for it has died, so that another start does not meet a command that
    still runs.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _mpo(words: list[str], log: str, threads: int) -> None:
    """What the child does: `mpo` with its output in a file."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Loader workers start as they do under `mpo` itself, and end with it; a fork server of their own would outlive a
    # kill.
    multiprocessing.set_start_method(None, force=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = ["mpo", *words]
    import torch

    torch.set_num_threads(threads)
    from mpo_lightning.cli import main

    main()
