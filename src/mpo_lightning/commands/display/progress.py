"""Progress bars of the verbs, which only a terminal shows."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpo_lightning.inference.engine import Engine


class progress_bar:
    """A context that shows a progress bar on a terminal; its value is a function that advances the bar by a number."""

    def __init__(self, label: str, total: int | None = None, unit: str = "") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, disable=not sys.stderr.isatty())
        self._label, self._total = label, total

    def __enter__(self) -> Callable[..., None]:
        self._bar.start()
        task = self._bar.add_task(self._label, total=self._total)

        def advance(done: int, total: int | None = None) -> None:
            if total is not None:
                self._bar.update(task, total=total)
            self._bar.advance(task, done)

        return advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def engine_with_bar(engine: "Engine") -> "Engine":
    """Returns the engine, with a progress bar on a terminal if it asks a server; the embedded one has Lightning's."""
    from mpo_lightning.inference.server import ServerEngine

    if not isinstance(engine, ServerEngine) or not sys.stderr.isatty():
        return engine
    return replace(engine, progress=progress_bar)
