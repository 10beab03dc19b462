"""A process of a run dies or stops: the run ends on every rank within its time limit, with one message; started again,
it goes on.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mpo_lightning.models.loading import load_model
from support.long_runs import begun, fit_arguments
from support.processes import TESTS, finish, free_port, members, started, wait_for
from support.runs import logged

pytestmark = pytest.mark.slow
LIMIT = 45
"""Seconds that a rank waits for the others, who on a busy machine take more than twenty to import torch at the start.
"""


@pytest.mark.parametrize(
    ("launcher", "strategy", "sent"),
    [("lightning", "ddp_cpu", signal.SIGSTOP), ("torchrun", "fsdp2_cpu", signal.SIGKILL)],
)
def test_the_run_ends_everywhere_within_its_limit(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path, strategy: str, sent: signal.Signals, launcher: str
) -> None:
    limit = f"--trainer.strategy.timeout=0:00:{LIMIT:02d}"
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, strategy, limit)
    starter = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
    ]
    with started(sys.executable, *(starter if launcher == "torchrun" else []), *arguments) as process:
        wait_for(lambda: begun(tmp_path / "run") or process.poll() is not None, 90)
        assert process.poll() is None, finish(process, 1)
        (victim,) = members(process, local_rank=1)
        os.kill(victim, sent)
        start = time.monotonic()
        # torchrun gives workers 30 seconds to end before it kills them.
        output = finish(process, LIMIT + 60)
        assert process.returncode != 0
        assert time.monotonic() - start < LIMIT + 45
        wait_for(lambda: not members(process), 5)
    told = [line for line in output.splitlines() if "another process of the run ended or did not answer" in line]
    watcher = "terminated with code -9" in output or "exitcode: -9" in output
    assert len(told) == 1 if sent == signal.SIGSTOP else len(told) <= 1 and (told or watcher), output
    assert all(line.startswith("mpo: ") and "resume with --ckpt_path auto" in line for line in told)
    assert "in _run_subcommand" not in output


def test_torchrun_starts_a_crashed_run_again_by_itself(
    tmp_path: Path, undisturbed_pair: Path, root: Path, shards: Path, tiny_folder: Path
) -> None:
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, "fsdp2_cpu")
    starter = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--max-restarts=2",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
    ]
    with started(sys.executable, *starter, *arguments) as process:
        wait_for(lambda: begun(tmp_path / "run"), 90)
        (victim,) = members(process, local_rank=0)
        os.kill(victim, signal.SIGKILL)
        output = finish(process, 180)
        assert process.returncode == 0, output[-3000:]
    assert "--ckpt_path auto: resuming from" in output
    first = int(logged(tmp_path / "run", "step", 1)[0])
    assert first > 0
    for name in ("loss", "delta", "gradient_norm"):
        assert logged(tmp_path / "run", f"train/{name}", 1) == logged(undisturbed_pair, f"train/{name}")[first:]
    ours, theirs = (
        load_model(next(path.rglob("export"))).state_dict() for path in (tmp_path / "run", undisturbed_pair)
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_two_imitated_machines_are_one(
    tmp_path: Path, undisturbed_pair: Path, root: Path, shards: Path, tiny_folder: Path, two_networks: list[str] | None
) -> None:
    """Hybrid sharding over two torchruns of one process each, in networks of their own where the machine allows it,
    else on loopback.
    """
    arguments = fit_arguments(
        tmp_path / "run",
        root,
        shards,
        tiny_folder,
        "hybrid",
        "--trainer.accelerator=cpu",
        "--trainer.num_nodes=2",
        "--trainer.devices=1",
    )
    prefixes = [["ip", "netns", "exec", name] for name in two_networks] if two_networks else [[], []]
    address = "10.77.0.1" if two_networks else "127.0.0.1"
    starter = [
        "-m",
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc_per_node=1",
        "--rdzv-backend=static",
        f"--master_addr={address}",
        f"--master_port={free_port()}",
    ]
    commands = [
        [*prefix, sys.executable, *starter, f"--node_rank={node}", *arguments] for node, prefix in enumerate(prefixes)
    ]
    options: dict[str, Any] = {"cwd": TESTS, "env": {"GLOO_SOCKET_IFNAME": "veth0"} if two_networks else {}}
    with started(*commands[0], **options) as one, started(*commands[1], **options) as two:
        outputs = [finish(one, 240), finish(two, 60)]
        assert one.returncode == two.returncode == 0, "\n".join(outputs)[-4000:]
    for name in ("loss", "delta", "gradient_norm", "margin"):
        expected = logged(undisturbed_pair, f"train/{name}")
        assert (
            logged(tmp_path / "run", f"train/{name}") == pytest.approx(expected, rel=1e-3, abs=1e-5)
            and len(expected) == 14
        )
