"""The end of a run that lost one of its processes, or that any of them cannot go on with: on every rank, with one
message.

A collective that another rank does not take part in fails with an error of the back end's own, a plain RuntimeError in
gloo. What Lightning started on this machine is ended with this process, stopped processes too, which would otherwise
stay as they are.
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
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mpo_lightning.errors import InputError, LostRank
from mpo_lightning.runs.signals import ended_by_term, keep_term_handler, signals_held

GRACE = 5.0
"""Seconds that other processes have to end by themselves, after an error that all of them may have met."""

WORDS = re.compile(
    r"\bgloo[/:]|^gloo connect|pair closure|\bconnection (closed|reset|refused)\b|timed out waiting \d+ ?ms|socket "
    r"timeout|^broken pipe"
    r"|\bmonitoredbarrier\b|^wait timeout|^operation timed out",
    re.IGNORECASE,
)
"""In the first line of what gloo and torch's store say of a rank that is gone or silent."""


def lost_rank(error: RuntimeError) -> str | None:
    """What a collective says that another rank did not take part in; None for any other error."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)):
        return text
    return re.sub(r"^\[.*?\] ", "", text) if WORDS.search(text) else None


def first_to_say() -> bool:
    """Whether no other rank has spoken for all; the ranks' common store counts, where it is still there."""
    try:
        return bool(dist.distributed_c10d._get_default_store().add("mpo_lightning/lost_rank", 1) == 1)
    except (RuntimeError, ValueError):
        return True


LAUNCHERS: list[_SubprocessScriptLauncher] = []
"""Of Lightning, that may have started processes beside this one.

A command may run several trainers; the first one's starts them.
"""


@contextmanager
def ended_everywhere(go_on: str, workers: str, step: Callable[[], int] | None = None) -> Iterator[None]:
    """Inside, an error ends the processes that Lightning started here as well.

    Args:
        go_on: how the user goes on.
        workers: the option that sets the number of loader processes.
        step: how far the run is, for the message.

    Raises:
        LostRank: for the error of a collective; without words where another rank has spoken.
        InputError: for a loader process that was killed.
    """
    try:
        yield
    except SIGTERMException:
        # In the middle of something, most likely the start, the others would wait for this process.
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
                    "a loader process was killed, as a rule by the system for want of memory "
                    f"({str(error).splitlines()[0]}); set {workers} lower, and "
                    f"go on {go_on}"
                ) from None
            raise
        rank = getattr(rank_zero_only, "rank", 0)
        place = f" in step {step()}" if step is not None else ""
        words = (
            f"another process of the run ended or did not answer within the strategy's timeout, as rank {rank} "
            f"found{place} ({reason}); "
            f"go on {go_on}"
        )
        raise LostRank(words if speaks else "") from None


def launch_whole(trainer: L.Trainer) -> None:
    """Has Lightning start its processes undisturbed: a signal in the middle would leave one behind that is not in its
    list yet.

    From then on SIGTERM is not Lightning's either (`keep_term_handler`). Launchers that fork are left alone.
    """
    launcher = trainer.strategy.launcher
    if launcher is not None and not isinstance(launcher, _SubprocessScriptLauncher):
        return  # it sends the trainer to its processes
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
    """Around a predict loop of a command that goes on with what it has written: its processes start together and end
    together, by SIGTERM too.

    Raises:
        LostRank, InputError: see `ended_everywhere`.
        SystemExit: for SIGTERM.
    """
    with ended_by_term(), ended_everywhere("by the same command", "num_workers"):
        launch_whole(trainer)
        yield


def _end_processes(first: signal.Signals | None, grace: float) -> None:
    """Ends what Lightning's launchers started here: signals it if asked to, waits, and kills what is left, stopped
    processes too.
    """
    with signals_held() as noted:
        processes = [process for launcher in LAUNCHERS for process in launcher.procs]
        for launcher in LAUNCHERS:
            # Lightning watches this list, and kills this process before it has spoken when one in it has failed.
            launcher.procs.clear()
        for process in processes:
            if first is not None:
                process.send_signal(first)
        end = time.monotonic() + grace
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, end - time.monotonic()))
            process.kill()  # nothing for one that has ended
        noted.clear()  # this process is ending
