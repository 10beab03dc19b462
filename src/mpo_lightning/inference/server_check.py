"""Compares a server's prompts with those that training makes, before anything is asked: what is sampled is trained.

vLLM says the token ids of a chat (`/tokenize`). Other servers say how many tokens a prompt has, with the reply to it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.data.pictures import Pixels
from mpo_lightning.data.prompts import Prompt, Prompts
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.inference.chat import ChatServer, Refused
from mpo_lightning.inference.options import OnDifference
from mpo_lightning.inference.request import EXACT, Kind, tile_fields
from mpo_lightning.inference.trained_prompts import BOS, SPACE, SYSTEM, TILES, TrainedPrompts
from mpo_lightning.models.loading import load_processor, read_config

OWN = 3
"""Prompts of the run that are compared, beside those made for the purpose."""

TileLimit = Literal["request", "server", "not known"]
Compared = Literal["ids", "counts", "nothing"]


@dataclass(frozen=True)
class Serving:
    """What a server does with prompts.

    Attributes:
        tile_limit: "request": it takes a prompt's limit; "server": it has one, which is the run's; else not known.
        compared: the prompts that were compared with the trainer's, each with a name.
        by: what was compared: token ids, numbers of tokens, or nothing.
        prompts: the trainer's side; None if the model's folder is not known.
        forbidden: token ids that a response may not contain.
        max_tiles: maximum tiles for a prompt's images if it has no limit of its own.
    """

    tile_limit: TileLimit
    compared: tuple[tuple[str, Prompt], ...] = ()
    by: Compared = "nothing"
    prompts: TrainedPrompts | None = None
    forbidden: tuple[int, ...] = ()
    max_tiles: int = DEFAULT_MAX_TILES

    def record(self) -> dict[str, Any]:
        """For the record of a run."""
        return {"tile_limit": self.tile_limit, "prompts_compared": len(self.compared), "compared_by": self.by}

    def tile_fields(self, kind: Kind, prompt: Prompt) -> dict[str, Any]:
        """Fields of a request that limit the tiles of its images, where the server takes them."""
        limit = prompt.max_tiles or self.max_tiles
        return tile_fields(kind, prompt, limit) if self.tile_limit == "request" else {}


@dataclass(frozen=True)
class ServerCheck:
    """Compares a server's prompts with the trainer's.

    Attributes:
        server: the server.
        kind: its kind.
        max_tiles: maximum tiles for a prompt's images.
        template: chat template, or "auto".
        system_message: system message of the options.
        checkpoint: folder of the model that is served; None takes the server's own, where it is on this machine.
        pixels: how images are sent.
        on_difference: whether a difference stops the run, or is only said.
    """

    server: ChatServer
    kind: Kind
    max_tiles: int
    template: str = "auto"
    system_message: str = "auto"
    checkpoint: str | None = None
    pixels: Pixels = "seen"
    on_difference: OnDifference = "stop"

    def serving(self, messages_of: Any, prompts: Prompts | None = None) -> Serving:
        """Compares, and returns what the server does with prompts; says on stderr what could not be compared.

        Args:
            messages_of: makes the messages of a prompt.
            prompts: the run's prompts, of which the first are compared too.

        Raises:
            InputError: a prompt differs; or the server does not answer.
        """
        trained, vocabulary = self._trained()
        limit = self._tile_limit(messages_of, trained)
        if trained is None:
            return Serving(limit, max_tiles=self.max_tiles)
        compared: list[tuple[str, Prompt]] = []
        ways = set()
        for label, prompt in [*trained.probes(self.kind in EXACT), *_first(prompts)]:
            if limit == "server" and prompt.images and not trained.same_tiles(prompt):
                continue  # such a prompt is refused when it is asked
            try:
                ours = trained.ids(prompt)
            except BadRecord:
                continue
            if by := self._compare(label, messages_of(prompt), self._fields(limit, prompt), ours, trained):
                ways.add(by)
                compared.append((label, prompt))
        weakest: Compared = "counts" if "counts" in ways else "ids" if ways else "nothing"
        if weakest == "nothing" and self.on_difference == "stop":
            _say(f"the model at {self.server.place} says nothing of its prompts, so they are not compared")
            limit = "not known" if limit == "server" else limit
        forbidden = tuple(trained.forbidden(vocabulary))
        return Serving(limit, tuple(compared), weakest, trained, forbidden, self.max_tiles)

    def _trained(self) -> tuple[TrainedPrompts | None, int]:
        folder = self.checkpoint or self._own_folder()
        if folder is None:
            _say(
                f"prompts of the model at {self.server.place} are not compared with the trainer's; give "
                "--engine.checkpoint with the folder of the model, or of its tokenizer, config and image settings"
            )
            return None, 0
        try:
            processor = load_processor(folder, self.template, self.system_message)
            vocabulary = read_config(folder).get_text_config().vocab_size
        except InputError as error:
            if self.checkpoint is not None:
                raise
            _say(f"prompts are not compared with the trainer's: {error}")
            return None, 0
        return TrainedPrompts(processor, self.max_tiles, self.pixels), vocabulary

    def _own_folder(self) -> str | None:
        """The folder that the server says it serves, if this machine has it."""
        for name in (self.server.model, self.server.served().get(self.server.model, "")):
            if name and (Path(name) / "config.json").is_file():
                return name
        return None

    def _tile_limit(self, messages_of: Any, trained: TrainedPrompts | None) -> TileLimit:
        if self.kind in ("sglang", "lmdeploy"):
            return "request"
        if self.kind == "vllm":
            prompt = TrainedPrompts.smallest()
            messages, fields = messages_of(prompt), self._fields("request", prompt)
            try:
                if self.server.prompt_ids(messages, fields) is None:
                    self.server.prompt_count(messages, fields)
                return "request"
            except Refused as refusal:
                if "mm_processor_kwargs" not in str(refusal):
                    _say(f"the model at {self.server.place} refuses a prompt with an image: {refusal}")
                    return "not known"
        if trained is None:
            _say(
                f"the model at {self.server.place} takes no tile limit from a request; its own holds, whatever "
                f"--engine.max_tiles says. {self._way_out(TILES)}"
            )
        return "server" if trained is not None else "not known"

    def _fields(self, limit: TileLimit, prompt: Prompt) -> dict[str, Any]:
        return Serving(limit, max_tiles=self.max_tiles).tile_fields(self.kind, prompt)

    def _compare(
        self,
        label: str,
        messages: list[dict[str, Any]],
        fields: dict[str, Any],
        ours: list[int],
        trained: TrainedPrompts,
    ) -> Literal["ids", "counts"] | None:
        """Returns what could be compared; None if the server refuses the prompt or says nothing of it."""
        try:
            theirs = self.server.prompt_ids(messages, fields) if self.kind == "vllm" else None
            if theirs is not None and trained.unexpanded(ours, theirs):
                theirs = None  # vLLM before 0.32; the number of tokens has the images'
            count = self.server.prompt_count(messages, fields) if theirs is None else len(theirs)
        except Refused as refusal:
            _say(f"the model at {self.server.place} refuses {label}, which is not compared: {refusal}")
            return None
        if count is None:
            return None
        if theirs == ours or (theirs is None and count == len(ours)):
            return "counts" if theirs is None else "ids"
        cause = trained.cause(ours, theirs) if theirs is not None else trained.cause_by_count(count - len(ours))
        place = "" if theirs is None else f", {trained.first_difference(ours, theirs)}"
        told = (
            f"the model at {self.server.place} gets another prompt than training makes: {label} has {count} tokens "
            f"there and {len(ours)} here{place}. Likely cause: {cause}. {self._way_out(cause)}"
        )
        if self.on_difference == "stop":
            raise InputError(told)
        _say(told)
        return None

    def _way_out(self, cause: str) -> str:
        if cause == TILES and self.kind == "vllm":
            return (
                f'Serve with --mm-processor-kwargs \'{{"max_patches": {self.max_tiles}, "max_dynamic_patch": '
                f"{self.max_tiles}}}', or with --trust-request-mm-kwargs where prompts have limits of their own or "
                "several images"
            )
        if cause == TILES:
            return (
                "This server takes the limit of the folder's preprocessor_config.json, max_patches: set it to "
                f"{self.max_tiles} there, or max_tiles (--engine.max_tiles or --max_tiles) to what is there"
            )
        if cause in (BOS, SPACE):
            return (
                "Serve a folder that this version wrote: its chat template has the prompt exactly ('mpo model convert')"
            )
        if SYSTEM in cause:
            return (
                "Serve with the chat template of a folder that 'mpo fit' or 'mpo model convert' wrote, or set "
                "system_message (--engine.system_message or --system_message) to what the model was trained with"
            )
        return "Serve with the chat template of a folder that 'mpo fit' or 'mpo model convert' wrote"


def _first(prompts: Prompts | None) -> Iterator[tuple[str, Prompt]]:
    """The first of the run's prompts that can be read."""
    for number in range(min(OWN, len(prompts)) if prompts is not None else 0):
        try:
            prompt = prompts[number]  # type: ignore[index]
        except BadRecord:
            continue
        if not prompt.begun:
            yield f"the run's prompt {prompts.where(number)}", prompt  # type: ignore[union-attr]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
