"""What counts as the error of a lost rank, and that no error leaves the processes behind that Lightning started."""

import pickle
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mpo_lightning.errors import InputError, LostRank
from mpo_lightning.runs import lost_ranks
from mpo_lightning.runs.lost_ranks import ended_everywhere, launch_whole, lost_rank
from mpo_lightning.runs.signals import TermHandler, signals_held

# As gloo, torch's store and its groups print them, of a rank that was killed, stopped, or never came.
SAID = [
    "Application timeout caused pair closure",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:31245",
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Read error [127.0.0.1]:4711: Connection reset by peer",
    "Connection closed by peer [10.77.0.2]:40812",
    "Connection reset by peer",
    "Timed out waiting 8000ms for recv operation to complete",
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:84] Timed out waiting 8000ms for recv operation to "
    "complete",
    "Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
    "Socket Timeout",
    "Broken pipe",
    "Rank 0 successfully reached monitoredBarrier, but received errors while waiting for send/recv from rank 1.",
    "wait timeout after 8000ms, keys: /default_pg/0//cpu//0/1",
    "Operation timed out!",
]


@pytest.mark.parametrize("words", SAID)
def test_what_collectives_say_of_a_rank_that_is_gone_is_known(words: str) -> None:
    found = lost_rank(RuntimeError(f"{words}\nException raised from somewhere"))
    assert found is not None and found in words and not found.startswith("[")


def test_what_the_back_ends_own_errors_say_is_known_whatever_it_is() -> None:
    assert lost_rank(torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1.")) is not None


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)",
        "Caught RuntimeError in DataLoader worker process 0.\nConnection reset by peer",
        "DataLoader worker (pid 12) is killed by signal: Killed.",
        "DataLoader timed out after 30 seconds",
        "",
    ],
)
def test_other_errors_are_none_of_a_lost_rank(words: str) -> None:
    assert lost_rank(RuntimeError(words)) is None


def stopped() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "600"])
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "T":
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ZeroDivisionError("of any kind"), ZeroDivisionError),
        (InputError("bad"), InputError),
        (RuntimeError("shapes"), RuntimeError),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), InputError),
        (RuntimeError("Application timeout caused pair closure"), LostRank),
        (SIGTERMException(), SIGTERMException),
        (SystemExit(1), SystemExit),
    ],
)
def test_no_error_leaves_a_process_behind_not_even_a_stopped_one(
    error: BaseException, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_ranks, "GRACE", 0.2)
    process = stopped()
    procs = [process]
    monkeypatch.setattr(lost_ranks, "LAUNCHERS", [SimpleNamespace(procs=procs)])
    try:
        with pytest.raises(expected) as raised, ended_everywhere("again", "--num_workers", lambda: 7):
            raise error
        assert process.wait(timeout=5) == -signal.SIGKILL and not procs
    finally:
        process.kill()
    if expected is LostRank:
        assert "did not answer within the strategy's timeout, as rank 0 found in step 7 (Application timeout" in str(
            raised.value
        )
        assert str(raised.value).endswith("; resume again")
    if "DataLoader" in str(error):
        assert str(raised.value).endswith("killed by signal: Killed. ); set --num_workers lower, and resume again")


def test_processes_that_end_by_themselves_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "0.3"])
    monkeypatch.setattr(lost_ranks, "LAUNCHERS", [SimpleNamespace(procs=[process])])
    with pytest.raises(InputError), ended_everywhere("again", "--num_workers"):
        raise InputError("all of them stop")
    assert process.wait() == 0


def test_a_second_signal_does_not_stop_the_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_ranks, "GRACE", 1.0)
    process = stopped()
    monkeypatch.setattr(lost_ranks, "LAUNCHERS", [SimpleNamespace(procs=[process])])
    handler = TermHandler()
    before = signal.signal(signal.SIGTERM, handler)
    again = threading.Timer(0.3, signal.raise_signal, [signal.SIGTERM])
    try:
        with pytest.raises(InputError), ended_everywhere("again", "--num_workers"):
            again.start()
            raise InputError("bad")
        assert process.wait(timeout=5) == -signal.SIGKILL
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        again.join()
        signal.signal(signal.SIGTERM, before)
        process.kill()


@pytest.mark.parametrize(("sent", "raised"), [(signal.SIGTERM, SIGTERMException), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_while_a_process_is_started_leaves_nobody_behind(
    sent: signal.Signals, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    ran: list[int] = []

    class Disturbed(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)
            signal.raise_signal(sent)  # it lives, and Lightning does not have it yet

    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")  # put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setattr(lost_ranks, "GRACE", 0.2)
    monkeypatch.setattr(subprocess_script, "_basic_subprocess_cmd", lambda: ["sleep", "600"])
    monkeypatch.setattr(subprocess, "Popen", Disturbed)
    # It kills the testing process where a started one fails.
    monkeypatch.setattr(subprocess_script, "_launch_process_observer", lambda processes: None)
    monkeypatch.setattr(subprocess_script, "_set_num_threads_if_needed", lambda num_processes: None)
    launcher = subprocess_script._SubprocessScriptLauncher(LightningEnvironment(), num_processes=3, num_nodes=1)
    monkeypatch.setattr(lost_ranks, "LAUNCHERS", [])
    signals = SimpleNamespace(register_signal_handlers=lambda: None)
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), _signal_connector=signals)
    # Where the tests run in the background, Ctrl-C is ignored from the start.
    handlers = {signal.SIGTERM: TermHandler(), signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with pytest.raises(raised), ended_everywhere("again", "--num_workers"):
            launch_whole(trainer)
            launcher.launch(ran.append, 1)
        assert len(started) == 2 and not ran
        assert all(process.wait(timeout=5) in (-signal.SIGTERM, -signal.SIGKILL) for process in started)
        assert all(signal.getsignal(number) is handler for number, handler in handlers.items())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in started:
            process.kill()


def test_a_launcher_that_forks_is_left_alone() -> None:
    """It sends itself to its processes, and waits for them inside `launch`."""
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, enable_checkpointing=False)
    before = trainer.strategy.launcher.launch
    launch_whole(trainer)
    assert trainer.strategy.launcher.launch == before
    pickle.dumps(trainer._signal_connector)


def test_a_signal_while_the_ranks_agree_who_speaks_does_not_stop_the_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(lost_ranks, "GRACE", 0.2)
    monkeypatch.setattr(lost_ranks, "first_to_say", interrupted)
    process = stopped()
    monkeypatch.setattr(lost_ranks, "LAUNCHERS", [SimpleNamespace(procs=[process])])
    try:
        with pytest.raises(KeyboardInterrupt), ended_everywhere("again", "--num_workers"):
            raise RuntimeError("Connection reset by peer")
        assert process.wait(timeout=5) == -signal.SIGKILL
    finally:
        process.kill()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_held() as noted:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
            assert noted == [signal.SIGTERM]
            noted.clear()
    finally:
        signal.signal(signal.SIGINT, before)
