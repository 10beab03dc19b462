"""SIGTERM and Ctrl-C for several processes that belong together.

Lightning handles SIGTERM with a broadcast inside the handler, in the middle of any computation, where other ranks do
not expect it. Outside of training it then continues. Here SIGTERM raises, except during training (`runs.stop_signals`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException


class TermHandler:
    """Raises on the first SIGTERM.

    Later ones, from a launcher or sent to the whole process group, do not disturb the shutdown.
    """

    def __init__(self) -> None:
        self.raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.raised:
            self.raised = True
            # Lightning raises it without an exit code, which would mean success.
            raise SIGTERMException(128 + signal.SIGTERM)

    def again(self) -> None:
        """Sends SIGTERM again after its exception was lost.

        Python drops exceptions raised inside a `__del__`, such as that of a loader's iterator, which may take seconds.
        """
        self.raised = False
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


@contextmanager
def ended_by_term() -> Iterator[None]:
    """Inside the context, SIGTERM raises, and the process exits with the code of a process that SIGTERM killed.

    Has no effect outside of the main thread.
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


def ignore_signals(worker: int) -> None:
    """`worker_init_fn` of a DataLoader that ignores signals to the whole process group.

    The main process handles those and may still need its workers. SIGTERM from the main process ends the worker, as
    torch and multiprocessing expect.
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
    """Inside the context, SIGTERM and Ctrl-C are only noted; the first one still noted is raised at the end.

    Ignored signals stay ignored, also for processes started inside. Has no effect outside of the main thread, which
    alone receives signals.
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
