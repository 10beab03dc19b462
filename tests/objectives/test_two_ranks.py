"""The reference code's delta over two real gloo processes, against its own recorded numbers."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.processes import finish, free_port, started

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
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(started(sys.executable, "-c", RANK, str(path), env=common | {"RANK": str(rank)}))
            for rank in range(2)
        ]
        for rank, process in enumerate(ranks):
            means, count = json.loads(finish(process, 120).splitlines()[-1])
            expected = json.loads(path.read_text())["ranks"][str(rank)]
            assert process.returncode == 0 and means == pytest.approx(expected["running_mean"], rel=1e-6)
            assert count == expected["count"][-1]
