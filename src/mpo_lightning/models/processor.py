"""What stands between text and pictures and a model: its tokenizer, template and sizes."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.encoding import Overlong, PairEncoder
from mpo_lightning.data.templates import ChatTemplate

ORIGINAL = "original"
"""Folder, in a checkpoint that came from the original layout, of that layout's files other than weights."""


@dataclass(frozen=True)
class Processor:
    """What turns pairs into a model's inputs, and is saved beside its weights.

    Attributes:
        tokenizer: the model's.
        template: its chat template.
        tile_size: side of a tile in pixels.
        tokens_per_tile: image tokens that a tile becomes.
        original: folder of the original layout's files, for the way back.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    tile_size: int
    tokens_per_tile: int
    original: Path | None = None

    def encoder(self, max_tiles: int, max_length: int, overlong: Overlong) -> PairEncoder:
        """A pair encoder with these limits; see `PairEncoder`."""
        return PairEncoder(self.tokenizer, self.template, self.tile_size, self.tokens_per_tile, max_tiles, max_length, overlong)
