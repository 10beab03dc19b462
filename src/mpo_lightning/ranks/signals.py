"""SIGTERM and Ctrl-C where several processes belong together.

Lightning takes SIGTERM with a broadcast inside the handler, in the middle of whatever the process computes, that the other ranks do not expect there; and
outside of training it goes on then. Here SIGTERM raises, unless training is under way (`training.stop_signals`).
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException


def raise_term(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM."""
    raise SIGTERMException


@contextmanager
def ended_by_term() -> Iterator[None]:
    """Inside, SIGTERM ends the process as an error does, with the exit code of one that the signal has killed."""
    before = signal.signal(signal.SIGTERM, raise_term)
    try:
        yield
    except SIGTERMException:
        # Lightning ends with 0, as if all had been done.
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def keep_term_handler(trainer: L.Trainer) -> None:
    """Has Lightning leave SIGTERM to whoever took it before the run."""
    connector = trainer._signal_connector
    register = connector.register_signal_handlers

    def registered() -> None:
        before = signal.getsignal(signal.SIGTERM)
        register()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    connector.register_signal_handlers = registered  # type: ignore[method-assign]


def ignore_signals(worker: int) -> None:
    """`worker_init_fn` of a DataLoader: a signal to the whole group of processes is the main one's business, which still needs its workers.

    A second SIGTERM ends them: that is how torch and multiprocessing end workers that hang.
    """
    terms = 0

    def term(number: int, frame: FrameType | None) -> None:
        nonlocal terms
        terms += 1
        if terms > 1:
            os._exit(0)

    signal.signal(signal.SIGTERM, term)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_held() -> Iterator[list[int]]:
    """Inside, SIGTERM and Ctrl-C are only noted; the first of those still noted at the end is raised then.

    Ignored ones stay ignored, for processes started inside as well. Outside of the main thread, which alone gets signals, nothing changes.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    restored.callback(signal.signal, number, handler)
                    signal.signal(number, note)
        yield noted
    for received in noted[:1]:
        signal.raise_signal(received)
