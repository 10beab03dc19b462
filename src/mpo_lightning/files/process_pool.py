"""The same function over many items in several processes, results in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Iterator[Result]]:
    """`map` over processes; leaving the context early cancels what has not begun.

    One worker computes in this process, so that scripts without a `__main__` guard and notebooks may call it.

    Args:
        function: importable by name.
        items: one call each.
        workers: processes; no more than items are started.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield map(function, items)
        return
    # Spawned, not forked: the caller may hold threads (a progress bar, torch) whose locks a fork would copy.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield pool.map(function, items)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
