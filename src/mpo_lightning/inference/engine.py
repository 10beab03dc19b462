"""Engines that answer prompts: the model in this program on any number of devices, or a server with OpenAI's protocol.

Both write the same file (see `answer_file`), with one line per prompt in the order of the prompts. Both resume after a
kill.
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
    """Prompts and how to answer them.

    Attributes:
        prompts: the prompts; a `Repeated` for several responses to each.
        asked: fingerprint of the prompts, so that a killed run resumes only with the same ones.
        max_new_tokens: maximum number of tokens per response.
        sampling: sampling options; None is greedy.
    """

    prompts: Prompts
    asked: str
    max_new_tokens: int
    sampling: Sampling | None = None


class Engine(Protocol):
    """Answers prompts.

    Attributes:
        exact_seams: whether white space after the start of a continued response is kept; some servers drop it.
        max_tiles: maximum tiles for a prompt's images if the prompt has no limit of its own.
    """

    @property
    def exact_seams(self) -> bool: ...

    @property
    def max_tiles(self) -> int: ...

    def check_begun(self, with_picture: bool) -> None:
        """Checks that the engine can continue a started response, before a run of hours starts.

        Args:
            with_picture: whether the prompt includes the image.

        Raises:
            InputError: it cannot.
        """
        ...

    def description(self) -> dict[str, Any]:
        """Returns all settings other than the work that affect the responses; recorded, and compared on resuming."""
        ...

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        """Writes the file of responses.

        Returns:
            Number of prompts, and how many of them have an error instead of a response; (0, 0) on all ranks but 0.

        Raises:
            InputError: the output exists, an unfinished run has other settings, or a server does not answer.
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
        system_message=options.system_message,
        at_once=options.at_once,
        timeout=options.timeout,
        max_tiles=options.max_tiles,
        pixels=options.pixels,
        checkpoint=options.checkpoint,
        on_difference=options.on_difference,
        reasoning=options.reasoning,
    )
