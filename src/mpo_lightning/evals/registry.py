"""Finds benchmarks by name: the `BENCHMARK` of a file in `evals/benchmarks`, or a user's own by its class path."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.evals import benchmarks
from mpo_lightning.evals.benchmark import Benchmark


@cache
def all_benchmarks() -> dict[str, Benchmark[Any]]:
    """Returns every benchmark of the package by its name."""
    modules = (
        importlib.import_module(f"{benchmarks.__name__}.{one.name}")
        for one in pkgutil.iter_modules(benchmarks.__path__)
    )
    found = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    return {one.name: one for one in found}


def find_benchmark(name: str) -> Benchmark[Any]:
    """Finds a benchmark by its name, or by the class path of a user's own, such as my_file.MY_BENCHMARK.

    Raises:
        InputError: the name is unknown, or the path does not name a benchmark.
    """
    if name in all_benchmarks():
        return all_benchmarks()[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise InputError(
            f"--benchmark {name}: there is no such benchmark; choose one of {', '.join(all_benchmarks())}, or name "
            "your own as module.NAME"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--benchmark {name}: cannot be imported ({error})") from None
    if not isinstance(found, Benchmark):
        raise InputError(f"--benchmark {name}: is a {type(found).__name__}, but must be a Benchmark")
    return found
