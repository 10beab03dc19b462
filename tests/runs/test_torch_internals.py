"""What `runs` assumes about the insides of torch; a failure names the assumption that a version broke."""

import atexit
import pickletools
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint import save

from mpo_lightning.runs import torch_internals


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1, timeout=timedelta(seconds=20)
    )
    yield
    dist.destroy_process_group()


def test_ranks_share_a_store(group: None) -> None:
    assert torch_internals.common_store().add("count", 1) == 1
    assert torch_internals.common_store().add("count", 1) == 2


def test_there_is_no_common_store_without_a_group() -> None:
    with pytest.raises(ValueError):
        torch_internals.common_store()


def test_stores_keep_their_keys_under_the_prefix() -> None:
    program = """
import os, socket, torch.distributed as dist
from mpo_lightning.runs.torch_internals import common_store, prefix_stores
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
prefix_stores("attempt_3")
dist.init_process_group("gloo")
common_store().set("key", "value")
store = common_store()
while isinstance(store, dist.PrefixStore):
    store = store.underlying_store
keys = [key for key in store.list_keys() if key.endswith("key")]
assert keys and all("attempt_3" in key for key in keys), keys
dist.destroy_process_group()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_table_of_shards_names_only_the_known_classes(tmp_path: Path, group: None) -> None:
    save({"weight": torch.ones(2, 2, dtype=torch.bfloat16), "note": {"a": 1}}, checkpoint_id=tmp_path / "folder")
    strings: list[str] = []
    named = set()
    for code, argument, _ in pickletools.genops((tmp_path / "folder/.metadata").read_bytes()):
        if code.name == "GLOBAL":
            named.add(tuple(str(argument).split(" ")))
        elif code.name == "STACK_GLOBAL":
            named.add((strings[-2], strings[-1]))
        elif isinstance(argument, str):
            strings.append(argument)
    ours = {name for module, name in named if module in torch_internals.TABLE_MODULES}
    assert ours and ours <= set(torch_internals.TABLE_CLASSES)


def test_a_schedule_reports_the_rates_that_are_set() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    torch_internals.set_last_rates(schedule, [0.25])
    assert schedule.get_last_lr() == [0.25]


def test_exit_handlers_run_at_once() -> None:
    program = """
import atexit, os
from mpo_lightning.runs.torch_internals import run_exit_handlers
atexit.register(print, "said", flush=True)
run_exit_handlers()
os._exit(0)
"""
    assert callable(atexit._run_exitfuncs)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "said\n", done.stderr
