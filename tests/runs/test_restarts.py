"""Workers that torchrun started again do not read what those before them wrote into the common store."""

import sys
from pathlib import Path

from support.processes import free_port, run_apart

WORKER = """
import os, sys
from mpo_lightning.runs import agreement
if os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
    agreement.forget_earlier_attempts()
import torch.distributed as dist
dist.init_process_group("gloo")
count = dist.distributed_c10d._get_default_store().add("a key of ours", 1)
print("COUNT", os.environ["TORCHELASTIC_RESTART_COUNT"], count, flush=True)
dist.destroy_process_group()
sys.exit(3 if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" else 0)
"""


def counts(tmp_path: Path) -> list[str]:
    """Of each attempt, what its worker read."""
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=1",
        "--max-restarts=1",
        "--master_addr=127.0.0.1",
        f"--master_port={free_port()}",
        str(path),
    ]
    done = run_apart(*command, seconds=120)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("COUNT")]


def test_a_second_attempt_reads_none_of_the_firsts_keys(tmp_path: Path) -> None:
    assert counts(tmp_path) == ["COUNT 0 1", "COUNT 1 1"]
