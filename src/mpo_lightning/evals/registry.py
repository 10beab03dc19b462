"""Benchmarks by name: each the `BENCHMARK` of its own file in `evals/benchmarks`, or your own by its class path."""

import importlib
import pkgutil
from functools import cache

from mpo_lightning.errors import InputError
from mpo_lightning.evals import benchmarks
from mpo_lightning.evals.benchmark import Benchmark


@cache
def all_benchmarks() -> dict[str, Benchmark]:
    """Every benchmark of the package by its name."""
    modules = (
        importlib.import_module(f"{benchmarks.__name__}.{one.name}")
        for one in pkgutil.iter_modules(benchmarks.__path__)
    )
    found = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    return {one.name: one for one in found}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name, or by the class path of your own, such as my_file.MY_BENCHMARK.

    Raises:
        InputError: there is none of that name, or what the path names is no benchmark.
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
        raise InputError(f"--benchmark {name}: it cannot be imported ({error})") from None
    if not isinstance(found, Benchmark):
        raise InputError(f"--benchmark {name}: it is a {type(found).__name__}, and must be a Benchmark")
    return found
