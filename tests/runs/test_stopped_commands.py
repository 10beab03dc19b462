"""SIGTERM to one of the processes of a command: all of them end, and the same command goes on."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from mpo_lightning.commands.predict import predict
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from support.commands import ranks
from support.long_runs import fit_arguments
from support.processes import TESTS, finish, free_port, members, started, wait_for

pytestmark = pytest.mark.slow
BY_TERM = 143
"""Exit code of a process that SIGTERM ended."""
IN_A_COMMAND = "mpo_lightning/commands/run.py"
"""In every traceback of a command's own. Threads of a loader may still tell of a connection that its reader dropped."""


def predict_arguments(model: Path, shards: Path, output: Path, tokens: int, *more: str) -> list[str]:
    return [
        "-m",
        "mpo_lightning",
        "predict",
        "--model",
        str(model),
        "--shards",
        str(shards / "train"),
        "--output",
        str(output),
        "--trainer.accelerator=cpu",
        f"--max_new_tokens={tokens}",
        "--engine.max_tiles=2",
        "--engine.batch_size=2",
        *more,
    ]


def answered(output: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in output.with_name(f"{output.name}.parts").glob("part-*"))


def test_a_signal_to_the_first_device_ends_them_all_and_the_same_command_goes_on(
    tmp_path: Path, shards: Path, tiny_folder: Path
) -> None:
    output = tmp_path / "out.jsonl"
    command = predict_arguments(tiny_folder, shards, output, 24, "--trainer.devices=2", "--engine.num_workers=1")
    with started(sys.executable, *command) as process:
        wait_for(lambda: answered(output) >= 4, 120)
        process.terminate()
        said = finish(process, 30)
        assert process.returncode == BY_TERM, said
        assert IN_A_COMMAND not in said and not output.exists(), said
        wait_for(lambda: not members(process), 5)
    kept = answered(output)
    assert 4 <= kept < 56
    assert f"{output}: 56 responses" in ranks(2, "mpo", *command[2:]).stdout
    whole = tmp_path / "whole.jsonl"
    predict(
        str(tiny_folder),
        str(whole),
        shards=str(shards / "train"),
        max_new_tokens=24,
        engine=EngineOptions(max_tiles=2, batch_size=2, num_workers=0),
        trainer=TrainerOptions("cpu", "1"),
    )
    assert output.read_bytes() == whole.read_bytes()


def test_one_device_and_its_loaders_end_at_once_when_the_group_is_signalled(
    tmp_path: Path, shards: Path, tiny_folder: Path
) -> None:
    output = tmp_path / "out.jsonl"
    with started(
        sys.executable,
        *predict_arguments(tiny_folder, shards, output, 24, "--trainer.devices=1", "--engine.num_workers=2"),
    ) as process:
        wait_for(lambda: answered(output) >= 2, 120)
        os.killpg(process.pid, signal.SIGTERM)  # as SLURM does
        said = finish(process, 30)
        assert process.returncode == BY_TERM and IN_A_COMMAND not in said, said
        wait_for(lambda: not members(process), 5)


def test_a_signal_while_processes_are_started_leaves_nobody_behind(
    tmp_path: Path, shards: Path, tiny_folder: Path
) -> None:
    copy = shutil.copytree(shards / "validation", tmp_path / "shards")
    command = [
        "data",
        "reference",
        "--shards",
        str(copy),
        "--model",
        str(tiny_folder),
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--num_workers=0",
    ]
    with started(sys.executable, "-m", "support.disturbed", *command, cwd=TESTS) as process:
        said = finish(process, 90)
        assert process.returncode == BY_TERM, said
        wait_for(lambda: not members(process), 5)


@pytest.mark.parametrize(("verb", "hook"), [("fit", "on_sanity_check_start"), ("validate", "on_validation_batch_end")])
def test_a_signal_to_one_rank_outside_of_training_ends_all(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path, verb: str, hook: str
) -> None:
    module, package, _, *arguments = fit_arguments(
        tmp_path / "run",
        root,
        shards,
        tiny_folder,
        "ddp_cpu",
        f"--data.validation={shards / 'validation'}",
        "--trainer.callbacks+=support.signalled.Signalled",
        f"--trainer.callbacks.hook={hook}",
        "--trainer.num_sanity_val_steps=1",
    )
    if verb == "validate":
        arguments.remove("--ckpt_path=auto")
    starter = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
    ]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    with started(sys.executable, *starter, module, package, verb, *arguments, env={"PYTHONPATH": path}) as process:
        said = finish(process, 90)  # the strategy's timeout is two minutes
        assert process.returncode != 0 and f"exitcode  : {BY_TERM}" in said.replace("exitcode: ", "exitcode  : "), said
        wait_for(lambda: not members(process), 5)
