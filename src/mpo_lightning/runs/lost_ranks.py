"""Ends a run on every rank, with one message, when it loses a process or any rank cannot continue.

If a rank is missing from a collective, the others get an error of the backend, a plain RuntimeError in gloo. Processes
that Lightning started on this machine are ended together with this one. That includes stopped processes, which would
otherwise stay.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mpo_lightning.errors import InputError, LostRank
from mpo_lightning.runs.lightning_internals import ScriptLauncher, keep_term_handler
from mpo_lightning.runs.signals import ended_by_term, signals_held
from mpo_lightning.runs.torch_internals import common_store

GRACE = 5.0
"""Seconds that other processes have to end by themselves after an error that all of them may have."""

WORDS = re.compile(
    r"\bgloo[/:]|^gloo connect|pair closure|\bconnection (closed|reset|refused)\b|timed out waiting \d+ ?ms|socket "
    r"timeout|^broken pipe"
    r"|\bmonitoredbarrier\b|^wait timeout|^operation timed out",
    re.IGNORECASE,
)
"""Matches the first line of the errors of gloo and torch's store about a rank that is gone or silent."""


def lost_rank(error: RuntimeError) -> str | None:
    """Returns a collective's error message if it is about a missing rank; None for any other error."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)):
        return text
    return re.sub(r"^\[.*?\] ", "", text) if WORDS.search(text) else None


def first_to_say() -> bool:
    """Whether this rank is the first to report a lost rank.

    Ranks count in their common store; if the store is gone, every rank reports.
    """
    try:
        return bool(common_store().add("mpo_lightning/lost_rank", 1) == 1)
    except (RuntimeError, ValueError):
        return True


LAUNCHERS: list[ScriptLauncher] = []
"""Launchers of Lightning that may have started processes on this machine.

A command may run several trainers; the first one's launcher starts the processes.
"""


@contextmanager
def ended_everywhere(go_on: str, workers: str, step: Callable[[], int] | None = None) -> Iterator[None]:
    """Makes an error inside the context also end the processes that Lightning started here.

    Args:
        go_on: how the user can resume, for the message.
        workers: name of the option for the number of loader processes.
        step: returns the current step, for the message.

    Raises:
        LostRank: a collective failed; the message is empty if another rank has reported already.
        InputError: a loader process was killed.
    """
    try:
        yield
    except SIGTERMException:
        # Other processes would wait for this one, most likely at the start.
        _end_processes(signal.SIGTERM, GRACE)
        raise
    except BaseException as error:
        reason = lost_rank(error) if isinstance(error, RuntimeError) else None
        speaks = False
        try:
            speaks = reason is not None and first_to_say()
        finally:
            _end_processes(None, 0 if speaks else GRACE)
        if reason is None:
            if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
                raise InputError(
                    "a loader process was killed, usually by the system for lack of memory "
                    f"({str(error).splitlines()[0]}); set {workers} lower, and "
                    f"resume {go_on}"
                ) from None
            raise
        rank = getattr(rank_zero_only, "rank", 0)
        place = f" in step {step()}" if step is not None else ""
        words = (
            f"another process of the run ended or did not answer within the strategy's timeout, as rank {rank} "
            f"found{place} ({reason}); "
            f"resume {go_on}"
        )
        raise LostRank(words if speaks else "") from None


def launch_whole(trainer: L.Trainer) -> None:
    """Makes Lightning start all of its processes before it handles signals.

    A signal in between would leave a process behind that is not in its list yet. SIGTERM is kept from Lightning
    afterwards (`keep_term_handler`). Launchers that fork are left unchanged.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None and not isinstance(launcher, ScriptLauncher):
        return  # it passes the trainer to its processes
    keep_term_handler(trainer)
    if launcher is None:
        return
    launch = launcher.launch

    def undisturbed(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if launcher not in LAUNCHERS:
            LAUNCHERS.append(launcher)
        with ExitStack() as holding:
            holding.enter_context(signals_held())

            def launched(*args: Any, **options: Any) -> Any:
                holding.close()
                return function(*args, **options)

            return launch(launched, *args, **options)

    launcher.launch = undisturbed  # type: ignore[method-assign]


@contextmanager
def run_whole(trainer: L.Trainer) -> Iterator[None]:
    """Runs a predict loop whose processes start and end together, by SIGTERM too; the same command resumes it.

    Raises:
        LostRank, InputError: as `ended_everywhere`.
        SystemExit: on SIGTERM.
    """
    with ended_by_term(), ended_everywhere("with the same command", "num_workers"):
        launch_whole(trainer)
        yield


def _end_processes(first: signal.Signals | None, grace: float) -> None:
    """Ends the processes that Lightning's launchers started here, stopped ones too.

    Args:
        first: signal to send first; None sends none.
        grace: seconds to wait before the remaining processes are killed.
    """
    with signals_held() as noted:
        processes = [process for launcher in LAUNCHERS for process in launcher.procs]
        for launcher in LAUNCHERS:
            # Lightning watches this list and kills this process when one in it fails, before it can report.
            launcher.procs.clear()
        for process in processes:
            if first is not None:
                process.send_signal(first)
        end = time.monotonic() + grace
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
            process.kill()  # no effect on an ended process
        noted.clear()  # this process is ending anyway
