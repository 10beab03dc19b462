"""Runs of several processes that are asked to stop, or make way for another job: all ranks stop after the same step,
saved, and go on bit for bit. SLURM is imitated by its environment and a `scontrol` of the test's own.
"""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment

from mpo_lightning.models.loading import load_model
from mpo_lightning.runs.stop_signals import StopSignals
from mpo_lightning.training import StepCheckpoint
from support.commands import mpo, ranks
from support.long_runs import begun, fit_arguments
from support.processes import TESTS, finish, free_port, members, started, wait_for
from support.runs import logged, make_run

pytestmark = pytest.mark.slow


def expect_the_same(stopped: Path, undisturbed: Path, bit_equal: bool = True) -> None:
    first = int(logged(stopped, "step", 1)[0])
    before = len(logged(stopped, "train/loss"))
    assert 0 < first == before < 14  # saved after the step that was the last
    for name in ("loss", "delta", "gradient_norm"):
        whole = logged(undisturbed, f"train/{name}")
        if not bit_equal:  # rows of another size
            found = logged(stopped, f"train/{name}") + logged(stopped, f"train/{name}", 1)
            assert found == pytest.approx(whole, rel=1e-3, abs=1e-5)
            continue
        assert (
            logged(stopped, f"train/{name}") == whole[:first] and logged(stopped, f"train/{name}", 1) == whole[first:]
        )
    if not bit_equal:
        return
    ours, theirs = (load_model(next(folder.rglob("export"))).state_dict() for folder in (stopped, undisturbed))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(("sent", "launcher"), [(signal.SIGINT, "lightning"), (signal.SIGTERM, "torchrun")])
def test_every_rank_stops_after_the_same_step(
    tmp_path: Path,
    undisturbed_pair: Path,
    root: Path,
    shards: Path,
    tiny_folder: Path,
    sent: signal.Signals,
    launcher: str,
) -> None:
    # Workers get the signal of a terminal too, and the main process still needs them.
    workers = ("--data.num_workers=2", "--data.micro_batch_size=1")
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, "fsdp2_cpu", *workers)
    starter = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
    ]
    with started(sys.executable, *(starter if launcher == "torchrun" else []), *arguments) as process:
        wait_for(lambda: begun(tmp_path / "run"), 90)
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            os.kill(members(process, local_rank=1)[0], sent)  # one of them is enough
        output = finish(process, 300)
        assert (
            process.returncode != 0
            and 'Traceback (most recent call last):\n  File "/' not in output.partition("torch/distributed/run.py")[0]
        ), output
        assert output.count("resume with --ckpt_path auto") == 1, output
        wait_for(lambda: not members(process), 5)
    done = ranks(2, "mpo", *arguments[2:])
    assert done.returncode == 0, done.stderr[-3000:]
    expect_the_same(tmp_path / "run", undisturbed_pair, bit_equal=False)


def slurm(tmp_path: Path, rank: int, port: int) -> dict[str, str]:
    """What srun gives each of two tasks on one machine."""
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "mpo",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def tasks(tmp_path: Path, arguments: list[str], until_begun: bool) -> list[str]:
    port = free_port()
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(sys.executable, *arguments, env=slurm(tmp_path, rank, port))) for rank in (0, 1)
        ]
        if until_begun:
            wait_for(lambda: begun(tmp_path / "run") or any(process.poll() is not None for process in processes), 90)
            for process in processes:
                os.killpg(process.pid, signal.SIGUSR1)  # SLURM signals all that belongs to a step
        outputs = [finish(process, 300) for process in processes]
        assert {process.returncode for process in processes} == ({143} if until_begun else {0}), outputs
    return outputs


def test_a_slurm_job_saves_makes_way_and_goes_on(
    tmp_path: Path, undisturbed_pair: Path, root: Path, shards: Path, tiny_folder: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "scontrol.log"}\n')
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, "fsdp2_cpu", "--data.num_workers=2")
    tasks(tmp_path, arguments, until_begun=True)
    assert (tmp_path / "scontrol.log").read_text() == "requeue 1234\n"
    assert "--ckpt_path auto: resuming from" in tasks(tmp_path, arguments, until_begun=False)[0]
    expect_the_same(tmp_path / "run", undisturbed_pair)


def test_sigterm_while_a_run_starts_leaves_nobody_behind(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path
) -> None:
    arguments = fit_arguments(tmp_path / "run", root, shards, tiny_folder, "fsdp2_cpu")
    with started(sys.executable, "-m", "support.disturbed", *arguments[2:], cwd=TESTS) as process:
        output = finish(process, 90)
        assert process.returncode == 143, output
        assert not members(process)


def test_the_sbatch_script_sends_the_signal_that_is_waited_for(root: Path) -> None:
    command = [
        "launch",
        "--nodes",
        "2",
        "--gpus",
        "8",
        "--config",
        str(root / "configs/base.yaml"),
        "--model.policy=MODEL",
    ]
    script = mpo(*command).stdout
    assert "#SBATCH --signal=SIGUSR1@" in script and "#SBATCH --requeue" in script and "--ckpt_path auto" in script


def test_one_device_under_slurm_listens_to_its_signal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, plugins=[SLURMEnvironment()]
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        signals = StopSignals(trainer)
        assert signals.requeue_signal == signal.SIGUSR1
        signal.raise_signal(signal.SIGUSR1)
        assert signals.of_any_rank() == signal.SIGUSR1
        signal.raise_signal(signal.SIGTERM)
        assert signals.of_any_rank() == signal.SIGUSR1  # the job goes back into the queue first
        (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "scontrol").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "1234")
        assert not signals.requeue() and signals.of_any_rank() == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_an_interrupt_in_the_middle_of_a_step_leaves_no_checkpoint(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    callback = StepCheckpoint(tmp_path / "checkpoints", every_n_train_steps=100)
    trainer, model, data = make_run(
        tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 8}, trainer={"callbacks": [callback]}
    )
    step = model.training_step

    def interrupted(batch, batch_idx):
        if trainer.global_step == 3:
            raise KeyboardInterrupt
        return step(batch, batch_idx)

    model.training_step = interrupted
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        trainer.fit(model, data)
    signal.signal(signal.SIGINT, handler)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.ckpt")] == ["epoch=0-step=0.ckpt"]
