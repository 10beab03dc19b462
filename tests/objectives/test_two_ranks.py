"""The reference code's delta over two real gloo processes, against its own recorded numbers."""

import json
from pathlib import Path

import pytest

from support.commands import ranks

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
def test_the_running_mean_of_two_ranks_is_the_references(golden: Path, tmp_path: Path) -> None:
    path = golden / "loss" / "running_mean_two_ranks.json"
    (tmp_path / "rank.py").write_text(RANK)
    done = ranks(2, str(tmp_path / "rank.py"), path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == 2
    for rank, (means, count) in enumerate(found):
        expected = json.loads(path.read_text())["ranks"][str(rank)]
        assert means == pytest.approx(expected["running_mean"], rel=1e-6) and count == expected["count"][-1]
