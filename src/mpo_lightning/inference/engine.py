"""Who answers prompts: the model in this program, on any number of devices, or a server that speaks OpenAI's protocol.

Both write the same file (see `answer_file`): a line a prompt in the order of the prompts, whatever the order of the
answers, and go on after a kill.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mpo_lightning.data.prompts import Prompts
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.models.sampling import Sampling


class Progress(Protocol):
    """Opens a progress bar; the context's value advances it by a number."""

    def __call__(
        self, label: str, total: int | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[..., None]]: ...


def no_progress(label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Callable[..., None]]:
    """A `Progress` that shows nothing."""
    return nullcontext(lambda *done: None)


@dataclass(frozen=True)
class Work:
    """Prompts, and how they are to be answered.

    Attributes:
        prompts: the questions; a `Repeated` for several answers to each.
        asked: names their content, so that a run that was killed goes on with the same ones only.
        max_new_tokens: most tokens of an answer.
        sampling: how answers are drawn; None is greedy.
    """

    prompts: Prompts
    asked: str
    max_new_tokens: int
    sampling: Sampling | None = None


class Engine(Protocol):
    """Answers prompts.

    Attributes:
        exact_seams: whether what it goes on with keeps the white space behind a begun answer; some servers drop it.
        max_tiles: most tiles of a prompt's pictures where the prompt has no limit of its own.
    """

    @property
    def exact_seams(self) -> bool: ...

    @property
    def max_tiles(self) -> int: ...

    def check_begun(self, with_picture: bool) -> None:
        """Raises InputError where it could not go on with a begun answer, so that a run of hours is not begun in vain.

        Args:
            with_picture: whether the picture is to be shown.
        """
        ...

    def description(self) -> dict[str, Any]:
        """What decides its answers apart from the work: for the record, and to tell one engine from another."""
        ...

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        """Writes the file of answers. Returns the number of prompts, and how many of them have a reason instead of an
        answer; (0, 0) in all processes but the first.

        Raises:
            InputError: the output exists, was begun with something else, or nobody answers.
        """
        ...


def open_engine(model: str, options: EngineOptions, trainer: TrainerOptions) -> Engine:
    """The engine that the options ask for.

    Args:
        model: checkpoint folder in either layout, or the model's name on the server.
        options: the engine's.
        trainer: devices of the embedded engine.
    """
    if options.kind == "embedded":
        from mpo_lightning.inference.embedded import EmbeddedEngine

        return EmbeddedEngine(model, options, trainer)
    from mpo_lightning.inference.server import ServerEngine

    return ServerEngine(
        url=None if options.url == "openai" else options.url,
        model=model,
        kind=options.server,
        template=None if options.template == "auto" else options.template,
        at_once=options.at_once,
        timeout=options.timeout,
        max_tiles=options.max_tiles,
    )
