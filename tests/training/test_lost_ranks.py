"""A process of a run dies or stops: the run ends on every rank within its time limit, with one message; started again, it goes on."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from mpo_lightning.models.loading import load_model
from support.processes import TESTS, finish, free_port, members, started, torchrun, wait_for
from support.runs import logged

pytestmark = pytest.mark.slow
LIMIT = 8
"""Seconds that a rank waits for the others."""


def fit_arguments(folder: Path, root: Path, shards: Path, tiny_folder: Path, strategy: str, *more: str) -> list[str]:
    """28 steps over two processes, a checkpoint every second one."""
    overlays = [
        part for name in ("base", "recipe/mpo", f"strategy/{strategy}") for part in ("--config", str(root / f"configs/{name}.yaml"))
    ]
    return ["-m", "mpo_lightning", "fit", *overlays, "--trainer.precision=32-true", f"--trainer.strategy.timeout=0:00:{LIMIT:02d}",
            f"--trainer.default_root_dir={folder}", f"--model.policy={tiny_folder}", f"--data.train={shards / 'train'}",
            "--data.global_batch_size=4", "--data.micro_batch_size=2", "--data.num_workers=0", "--data.max_length=1024",
            "--model.gradient_checkpointing=false", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false", "--ckpt_path=auto",
            "--trainer.callbacks+=mpo_lightning.training.StepCheckpoint", "--trainer.callbacks.every_n_train_steps=2", *more]  # fmt: skip


def begun(folder: Path) -> bool:
    metrics = folder / "version_0" / "metrics.csv"
    return metrics.exists() and metrics.read_text().count("\n") > 6


@pytest.mark.parametrize(
    ("launcher", "strategy", "sent"),
    [("lightning", "ddp_cpu", signal.SIGSTOP), ("lightning", "fsdp2_cpu", signal.SIGKILL), ("torchrun", "ddp_cpu", signal.SIGKILL)],
)
def test_the_run_ends_everywhere_within_its_limit(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path, strategy: str, sent: signal.Signals, launcher: str
) -> None:
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, strategy)
    starter = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    with started(sys.executable, *(starter if launcher == "torchrun" else []), *arguments) as process:
        wait_for(lambda: begun(tmp_path / "run"), 90)
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
    assert all(line.startswith("mpo: ") and "go on with --ckpt_path auto" in line for line in told)
    assert "in _run_subcommand" not in output


def test_torchrun_starts_a_crashed_run_again_by_itself(tmp_path: Path, root: Path, shards: Path, tiny_folder: Path) -> None:
    quiet = fit_arguments(tmp_path / "quiet", root, shards, tiny_folder, "fsdp2_cpu")
    torchrun(2, *quiet)
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
    assert "--ckpt_path auto: going on from" in output
    first = int(logged(tmp_path / "run", "step", 1)[0])
    assert first > 0
    for name in ("loss", "delta", "gradient_norm"):
        assert logged(tmp_path / "run", f"train/{name}", 1) == logged(tmp_path / "quiet", f"train/{name}")[first:]
    ours, theirs = (load_model(next((tmp_path / name).rglob("export"))).state_dict() for name in ("run", "quiet"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def nodes(
    folder: Path, root: Path, shards: Path, tiny_folder: Path, *, prefix: list[list[str]], address: str, environment: dict
) -> list[str]:
    """Hybrid sharding on two imitated machines of one process each; the outputs."""
    arguments = fit_arguments(
        folder, root, shards, tiny_folder, "hybrid", "--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.devices=1"
    )
    arguments = [word.replace(f"timeout=0:00:{LIMIT:02d}", "timeout=0:01:00") for word in arguments]
    starter = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=static", f"--master_addr={address}",
               f"--master_port={free_port()}"]  # fmt: skip
    commands = [[*prefix[node], sys.executable, *starter, f"--node_rank={node}", *arguments] for node in (0, 1)]
    options = {"cwd": TESTS, "env": environment}
    with started(*commands[0], **options) as one, started(*commands[1], **options) as two:
        outputs = [finish(one, 240), finish(two, 60)]
        assert one.returncode == two.returncode == 0, "\n".join(outputs)[-4000:]
    return outputs


def expect_one_process(folder: Path, one_process: Path) -> None:
    for name in ("loss", "delta", "gradient_norm", "margin"):
        expected = logged(one_process, f"train/{name}")
        assert logged(folder, f"train/{name}") == pytest.approx(expected, rel=1e-3, abs=1e-5) and len(expected) == 28


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory, root: Path, shards: Path, tiny_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("one")
    arguments = [
        word
        for word in fit_arguments(folder, root, shards, tiny_folder, "single", "--trainer.accelerator=cpu")
        if "strategy.timeout" not in word
    ]
    with started(sys.executable, *arguments) as process:
        output = finish(process, 120)
        assert process.returncode == 0, output
    return folder


def test_two_imitated_machines_on_loopback_are_one(
    tmp_path: Path, one_process: Path, root: Path, shards: Path, tiny_folder: Path
) -> None:
    nodes(tmp_path / "run", root, shards, tiny_folder, prefix=[[], []], address="127.0.0.1", environment={})
    expect_one_process(tmp_path / "run", one_process)


def test_two_machines_with_networks_of_their_own_are_one(
    tmp_path: Path, one_process: Path, root: Path, shards: Path, tiny_folder: Path, two_networks: list[str]
) -> None:
    prefix = [["ip", "netns", "exec", name] for name in two_networks]
    nodes(
        tmp_path / "run", root, shards, tiny_folder, prefix=prefix, address="10.77.0.1", environment={"GLOO_SOCKET_IFNAME": "veth0"}
    )
    expect_one_process(tmp_path / "run", one_process)
