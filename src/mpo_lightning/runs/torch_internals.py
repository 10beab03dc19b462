"""Private API of torch and of Python's exit handlers, all of it that runs use.

`tests/runs/test_torch_internals.py` checks each assumption; pyproject.toml has the upper bound.
"""

import atexit
import importlib
from typing import Any

import torch.distributed as dist
from torch.optim.lr_scheduler import LambdaLR

TABLE_CLASSES = (
    "Metadata",
    "MetadataIndex",
    "TensorStorageMetadata",
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "TensorProperties",
    "_MEM_FORMAT_ENCODING",
    "StorageMeta",
    "_StorageInfo",
)
"""Classes in the table of shards that torch.distributed.checkpoint writes; none of them runs code."""

TABLE_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
"""Modules that these classes come from."""

TABLE_FUNCTIONS = (("torch", "Size"), ("torch.serialization", "_get_layout"))
"""Other names in the table of shards."""


def prefix_stores(prefix: str) -> None:
    """Makes every store that torch's rendezvous creates from now on keep its keys under a prefix."""
    # `torch.distributed.rendezvous` as an attribute is a function.
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")
    made = rendezvous._create_c10d_store

    def prefixed(*arguments: Any, **options: Any) -> dist.Store:
        return dist.PrefixStore(prefix, made(*arguments, **options))

    rendezvous._create_c10d_store = prefixed


def common_store() -> dist.Store:
    """Returns the store that all ranks share; raises ValueError without a process group."""
    store: dist.Store = dist.distributed_c10d._get_default_store()
    return store


def set_last_rates(schedule: LambdaLR, rates: list[float]) -> None:
    """Sets what `schedule.get_last_lr()` returns."""
    schedule._last_lr = list(rates)


def run_exit_handlers() -> None:
    """Runs what was registered with `atexit`."""
    atexit._run_exitfuncs()
