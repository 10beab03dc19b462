"""What turns pairs into model inputs: tokenizer, chat template and image preprocessing of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.encoding import THINKING_MARKS, Overlong, PairEncoder, Pictures, Thinking
from mpo_lightning.data.pictures import Pixels
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class Processor:
    """Turns pairs into model inputs; saved next to the model's weights.

    Attributes:
        tokenizer: tokenizer of the model.
        template: chat template of the model.
        pictures: image preprocessing of the model.
        original: folder with the files of the original layout, needed to convert back to it; None if there is none.
        max_tiles: most tiles of an image that the saved image settings allow; training has a limit of its own.
        prompt_source: the files that the template and its system message come from.
        untaught: tokens of the tokenizer that the model was never given; a text that contains one is refused.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    pictures: Pictures
    original: Path | None = None
    max_tiles: int = DEFAULT_MAX_TILES
    prompt_source: str = ""
    untaught: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """A line that says what the prompt is and where that comes from."""
        message = self.template.system_message
        return (
            f"prompt: template {self.template.name}, system message {message!r:.80}, from {self.prompt_source}"
            if message
            else f"prompt: template {self.template.name}, no system message, from {self.prompt_source}"
        )

    @property
    def tile_size(self) -> int:
        return self.pictures.tile_size

    @property
    def tokens_per_tile(self) -> int:
        return self.pictures.tokens_per_tile

    def encoder(
        self,
        max_tiles: int,
        max_length: int,
        overlong: Overlong,
        pixels: Pixels = "seen",
        thinking: Thinking = "trained",
    ) -> PairEncoder:
        """Returns a `PairEncoder` with these limits.

        Raises:
            InputError: thinking is to be told apart, and the tokenizer has no mark for its end.
        """
        if thinking == "context" and not set(THINKING_MARKS) <= self.tokenizer.get_vocab().keys():
            raise InputError(
                f"data.thinking context needs a tokenizer with {' and '.join(THINKING_MARKS)}; this one has none"
            )
        return PairEncoder(
            self.tokenizer,
            self.template,
            pictures=self.pictures,
            max_tiles=max_tiles,
            max_length=max_length,
            overlong=overlong,
            pixels=pixels,
            untaught=self.untaught,
            thinking=thinking,
        )


def read_tokenizer(folder: Path, **options: Any) -> PreTrainedTokenizerBase:
    """Reads a tokenizer in transformers' layout.

    Raises:
        InputError: it cannot be loaded.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True, **options
        )
        return tokenizer
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{folder}: the tokenizer cannot be loaded ({str(error).strip().splitlines()[0]})") from None
