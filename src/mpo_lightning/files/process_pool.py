"""Maps a function over many items in several processes and returns the results in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_map(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Iterator[Result]]:
    """`map` over processes; leaving the context early cancels the items that have not started.

    A single worker runs in this process, so that notebooks and scripts without a `__main__` guard can call it.

    Args:
        function: function that can be imported by name.
        items: arguments, one per call.
        workers: number of processes; no more than items are started.
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
