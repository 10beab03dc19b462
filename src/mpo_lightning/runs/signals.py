"""SIGTERM and Ctrl-C where several processes belong together.

Lightning takes SIGTERM with a broadcast inside the handler, in the middle of whatever the process computes, that the
other ranks do not expect there; and outside of training it goes on then. Here SIGTERM raises, unless training is under
way (`runs.stop_signals`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException


class TermHandler:
    """Raises for the first SIGTERM.

    Others that follow, of a launcher or to the whole group, do not disturb the end that it brings.
    """

    def __init__(self) -> None:
        self.raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.raised:
            self.raised = True
            # Lightning's own has no exit code, which is that of a command which has done all.
            raise SIGTERMException(128 + signal.SIGTERM)

    def again(self) -> None:
        """For one that came to nothing: Python drops what is raised inside a `__del__`, as in that of a loader's
        iterator, which may take seconds.
        """
        self.raised = False
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


@contextmanager
def ended_by_term() -> Iterator[None]:
    """Inside, SIGTERM ends the process as an error does, with the exit code of one that the signal has killed.

    Nothing changes outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, dropped = TermHandler(), sys.unraisablehook

    def tell_dropped(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, SIGTERMException):
            handler.again()
        else:
            dropped(unraisable)

    before = signal.signal(signal.SIGTERM, handler)
    sys.unraisablehook = tell_dropped
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        sys.unraisablehook = dropped
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
    """`worker_init_fn` of a DataLoader: a signal to the whole group of processes is the main one's business, which may
    still need its workers.

    SIGTERM of the main process itself ends them: that is how torch and multiprocessing end workers.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_starter, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _end_with_starter() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def signals_held() -> Iterator[list[int]]:
    """Inside, SIGTERM and Ctrl-C are only noted; the first of those still noted at the end is raised then.

    Ignored ones stay ignored, for processes started inside as well. Outside of the main thread, which alone gets
    signals, nothing changes.
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
