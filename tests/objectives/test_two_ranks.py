"""The reference code's delta over two real gloo processes, against its own recorded numbers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

RANK = """
import json, os, sys
import torch
import torch.distributed as dist
from mpo_lightning.objectives import RunningMicroBatches

dist.init_process_group("gloo")
rank = dist.get_rank()
inputs = json.load(open(sys.argv[1]))[f"inputs_rank{rank}"]

def reduce_sum(values):
    dist.all_reduce(values)
    return values

shift = RunningMicroBatches()
means = [shift.before_loss(torch.tensor([value, value]), reduce_sum, True) for value in inputs]
print(json.dumps([means, shift.count]))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_the_running_mean_of_two_ranks_is_the_references(golden: Path) -> None:
    path = golden / "loss" / "running_mean_two_ranks.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(path)], env=common | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    for rank, process in enumerate(ranks):
        means, count = json.loads(process.communicate(timeout=120)[0])
        expected = json.loads(path.read_text())["ranks"][str(rank)]
        assert process.returncode == 0 and means == pytest.approx(expected["running_mean"], rel=1e-6)
        assert count == expected["count"][-1]
