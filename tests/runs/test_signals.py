"""What SIGTERM does in the processes of a command, and in the workers of their loaders."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from mpo_lightning.runs.signals import TermHandler, ended_by_term, ignore_signals, signals_held
from support.processes import wait_for


def test_the_first_raises_and_those_that_follow_do_not_disturb_the_end() -> None:
    before, hook, ends = signal.getsignal(signal.SIGTERM), sys.unraisablehook, []
    with pytest.raises(SystemExit) as stopped, ended_by_term():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            ends.append("cleaned up")
    assert stopped.value.code == 143 and ends == ["cleaned up"]
    assert signal.getsignal(signal.SIGTERM) == before and sys.unraisablehook is hook


def test_one_that_comes_as_the_command_ends_has_its_exit_code_too() -> None:
    with pytest.raises(SystemExit) as stopped:
        TermHandler()(signal.SIGTERM, None)
    assert stopped.value.code == 143


class Ended:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_one_that_python_drops_comes_again() -> None:
    """In a `__del__`, whatever is raised there."""
    start = time.monotonic()
    with pytest.raises(SystemExit) as stopped, ended_by_term():
        Ended()
        wait_for(lambda: False, 60)
    assert stopped.value.code == 143 and time.monotonic() - start < 60


def test_what_else_python_drops_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with ended_by_term():
        Broken()
    assert told == [ZeroDivisionError]


@pytest.mark.parametrize("inside", [ended_by_term, signals_held])
def test_another_thread_changes_nothing(inside: Callable[[], AbstractContextManager[object]]) -> None:
    def elsewhere() -> None:
        with inside():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def work(ready: "multiprocessing.synchronize.Event") -> None:
    ignore_signals(0)
    ready.set()
    time.sleep(600)


def test_a_worker_ends_by_its_main_process_alone() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=work, args=(ready,), daemon=True)
    worker.start()
    try:
        assert ready.wait(60)
        for name in ("TERM", "INT", "USR1"):
            subprocess.run(["sh", "-c", f"kill -{name} {worker.pid}"], check=True)  # as a shell or SLURM does
        worker.join(1)
        assert worker.is_alive()
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == 0
    finally:
        worker.kill()
