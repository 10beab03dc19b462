"""The token ids that training gives a prompt, and why a server's are others."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import groupby, zip_longest
from typing import Any

import numpy as np
from PIL import Image

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.pictures import Pixels, open_picture
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.models.draws import forbidden_ids
from mpo_lightning.models.processor import Processor

BOS, TILES, SYSTEM, SPACE, OTHER = "BOS", "tiles", "system message", "white space", "chat template"
"""Why a server's prompt is another one."""


@dataclass(frozen=True)
class TrainedPrompts:
    """A model's prompts as it was trained on them.

    Attributes:
        processor: processor of the model's folder.
        max_tiles: maximum tiles for a prompt's images.
        pixels: how images are seen.
    """

    processor: Processor
    max_tiles: int
    pixels: Pixels = "seen"

    @cached_property
    def encoder(self) -> PairEncoder:
        """Encoder without a limit on length, which the server has."""
        return self.processor.encoder(self.max_tiles, 2**40, "set_aside", self.pixels)

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            BadRecord: the prompt cannot be used.
        """
        tiles = self.encoder.tiles(prompt.images, prompt.max_tiles)
        return self.encoder.prompt_ids(prompt.question, [len(part) for part in tiles], prompt.system)

    def forbidden(self, vocabulary: int) -> list[int]:
        """Token ids that a response may not contain."""
        return forbidden_ids(self.processor.tokenizer, self.processor.template, vocabulary)

    def same_tiles(self, prompt: Prompt) -> bool:
        """Whether a server that cuts each image into `max_tiles` at most cuts this prompt's as training does."""
        limit, count = prompt.max_tiles or self.max_tiles, len(prompt.images)
        images = [open_picture(data, self.pixels) for data in prompt.images]
        layout = self.processor.pictures.layout
        return all(layout(image, limit, count) == layout(image, self.max_tiles, 1) for image in images)

    @staticmethod
    def smallest() -> Prompt:
        """A prompt with a small image."""
        return Prompt("<image>\nWhat is this?", (_strip(28, 1),))

    def probes(self, anywhere: bool) -> list[tuple[str, Prompt]]:
        """Prompts in which any usual difference shows: turns, white space, places of images, tile limits.

        Args:
            anywhere: whether images may stand anywhere, and white space is kept.
        """
        most = self.max_tiles
        fitting, wider = (_strip(self.processor.tile_size, tiles) for tiles in (most, most + 1))
        usual = [
            ("a text", Prompt("What is 12 + 7?")),
            ("an image in front", Prompt("<image>\nWhat is this?", (fitting,))),
            ("an image wider than the limit", Prompt("<image>\nWhat is this?", (wider,))),
            ("two images", Prompt("<image>\n<image>\nWhich is larger?", (fitting, wider))),
        ]
        others = [
            ("a text in white space", Prompt(" What is 12 + 7? \n")),
            ("an image in the middle", Prompt("Look: <image> What is this?", (fitting,))),
            ("an image at the end", Prompt("What is this?\n<image>", (fitting,))),
        ]
        return [*usual, *others] if anywhere else usual

    def cause(self, ours: list[int], theirs: list[int]) -> str:
        """The likely reason for other ids."""
        tokenizer = self.processor.tokenizer
        image = tokenizer.convert_tokens_to_ids(self.processor.pictures.token)
        bos = tokenizer.bos_token_id
        if bos is not None and _without(ours, bos) == _without(theirs, bos):
            return BOS
        if _collapsed(ours, image) == _collapsed(theirs, image):
            return TILES
        here, there = (str(tokenizer.decode(_collapsed(ids, image))) for ids in (ours, theirs))
        if "".join(here.split()) == "".join(there.split()):
            return SPACE
        turn = self.processor.template.user_prefix
        if turn in here and here.partition(turn)[2] == there.partition(turn)[2]:
            return SYSTEM
        return OTHER

    def unexpanded(self, ours: list[int], theirs: list[int]) -> bool:
        """Whether a server's ids have one token for each image, as older servers' texts."""
        image = self.processor.tokenizer.convert_tokens_to_ids(self.processor.pictures.token)
        return theirs != ours and _collapsed(ours, image) == theirs

    def cause_by_count(self, difference: int) -> str:
        """The likely reason for a number of further tokens at the server."""
        if difference % self.processor.tokens_per_tile == 0:
            return TILES
        bos = self.processor.tokenizer.bos_token_id is not None
        return BOS if bos and abs(difference) == 1 else f"{SYSTEM} or {SPACE}"

    def first_difference(self, ours: list[int], theirs: list[int]) -> str:
        """Position and texts of the first token that differs."""
        pairs = enumerate(zip_longest(ours, theirs))
        place = next(number for number, (here, there) in pairs if here != there)
        here, there = (
            repr(str(self.processor.tokenizer.decode(ids[place : place + 8]))) if ids[place:] else "its end"
            for ids in (ours, theirs)
        )
        return f"from token {place} on: {there} there, {here} here"


def _without(ids: list[int], one: Any) -> list[int]:
    return [number for number in ids if number != one]


def _collapsed(ids: list[int], image: Any) -> list[int]:
    """Token ids with one image token for all of an image."""
    return [number for one, run in groupby(ids) for number in ([one] if one == image else run)]


def _strip(size: int, tiles: int) -> bytes:
    """An image that is cut into exactly this many tiles, unless the limit is lower."""
    columns = np.linspace(0, 255, size * tiles, dtype=np.uint8)
    pixels = np.broadcast_to(columns[None, :, None], (size, len(columns), 3))
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()
