"""Encodes a record as token ids and tiles.

Prompt and answers are tokenized separately, as in generation. The prompt ends with the template's assistant prefix, and
an answer starts a new tokenization. So chosen and rejected always follow the same prompt ids.

`max_length` bounds prompt plus answer. A prompt is never cut, so image tokens never are. With overlong "truncate", an
answer that does not fit is cut from the right and loses its end token, which then carries no label. With overlong
"set_aside", the pair is refused. A prompt that leaves no room for an answer is always refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.pictures import Pixels, open_picture
from mpo_lightning.data.plan import Occurrence
from mpo_lightning.data.records import IMAGE_MARK, PreferenceRecord
from mpo_lightning.errors import BadRecord

Overlong = Literal["truncate", "set_aside"]

Thinking = Literal["trained", "context"]
"""Whether what an answer thinks is trained, or is only read before the rest of the answer."""

THINKING_MARKS = ("<think>", "</think>")


class Pictures(Protocol):
    """How a model family takes images: as tiles of one size, each a fixed number of tokens."""

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels; if a family does not cut images, side of the image as the model sees it."""

    @property
    def tokens_per_tile(self) -> int:
        """Number of language-model tokens of a tile."""

    @property
    def token(self) -> str:
        """The text of the token that stands for a part of an image."""

    @property
    def mark(self) -> str:
        """The text that stands for an image in a prompt.

        It contains `token` once, which is repeated for all parts of the image.
        """

    def cut(self, image: Image.Image, max_tiles: int, pictures: int) -> Tensor:
        """Cuts one of a question's `pictures` images into tiles, uint8 [N, 3, S, S], at most `max_tiles` for all."""

    def degrade(self, tiles: Tensor, rng: np.random.Generator) -> Tensor:
        """Applies MMPR's `data_augment` to tiles."""

    def layout(self, image: Image.Image, max_tiles: int, pictures: int) -> tuple[int, int]:
        """Columns and rows in which a page shows an image's tiles."""


@dataclass(frozen=True)
class EncodedPair:
    """One pair, encoded for the model.

    Attributes:
        key: the record's key.
        prompt_ids: int64 [prompt tokens], including image tokens.
        chosen_ids: int64 [answer tokens], the end token last unless the answer was cut.
        rejected_ids: int64 [answer tokens], likewise.
        tiles: uint8 [N, 3, S, S]; N is 0 for a text-only pair.
        cut: number of the two answers that were cut.
        untrained: tokens at the start of chosen and rejected that are read but not trained.
    """

    key: str
    prompt_ids: Tensor
    chosen_ids: Tensor
    rejected_ids: Tensor
    tiles: Tensor
    cut: int = 0
    untrained: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class EncodedPrompt:
    """What the pairs of a question have in common.

    Attributes:
        ids: token ids, including image tokens.
        tiles: uint8 [N, 3, S, S].
    """

    ids: Tensor
    tiles: Tensor


@dataclass(frozen=True)
class PairEncoder:
    """Encodes records for one model.

    Attributes:
        tokenizer: the model's tokenizer.
        template: the model's chat template.
        pictures: how the model takes images.
        max_tiles: most tiles of a pair's grids, thumbnails not counted; its images share them. A record's own limit
            replaces it.
        max_length: most tokens of prompt plus answer.
        overlong: what to do with an answer that does not fit: cut it, or refuse the pair.
        pixels: whether images are taken as a person sees them, or with the reference's pixels; see `data.pictures`.
        untaught: tokens that the model was never given; a text that contains one is refused.
        thinking: whether an answer's thinking is trained, as in the released code, or only read.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    pictures: Pictures
    max_tiles: int = 12
    max_length: int = 6144
    overlong: Overlong = "truncate"
    pixels: Pixels = "seen"
    untaught: tuple[str, ...] = ()
    thinking: Thinking = "trained"

    @property
    def tile_size(self) -> int:
        return self.pictures.tile_size

    @property
    def tokens_per_tile(self) -> int:
        return self.pictures.tokens_per_tile

    def encode(self, record: PreferenceRecord, occurrence: Occurrence | None = None, seed: int = 0) -> EncodedPair:
        """Encodes a record: its prompt, and its answers behind it.

        Raises:
            BadRecord: see `encode_prompt` and `encode_answers`.
        """
        return self.encode_answers(record, self.encode_prompt(record, occurrence, seed))

    def encode_prompt(
        self, record: PreferenceRecord, occurrence: Occurrence | None = None, seed: int = 0
    ) -> EncodedPrompt:
        """Encodes what the pairs of a question have in common.

        Args:
            record: a pair of the question.
            occurrence: occurrence of the record, which seeds the random JPEG quality of `augment`; None leaves tiles
                unchanged.
            seed: seed of the run.

        Raises:
            BadRecord: an image that cannot be decoded, or a prompt too long.
        """
        tiles = self.tiles(record.images, record.max_tiles)
        if record.augment and occurrence is not None:
            rng = np.random.default_rng([seed, occurrence.epoch, occurrence.record, occurrence.copy])
            tiles = [self.pictures.degrade(part, rng) for part in tiles]
        prompt = self.prompt_ids(record.question, [len(part) for part in tiles], record.system)
        room = self.max_length - len(prompt)
        if room < 1:
            raise BadRecord(
                f"the prompt has {len(prompt)} tokens, {sum(map(len, tiles)) * self.tokens_per_tile} of them for "
                "images, and leaves no room "
                f"for an answer in {self.max_length}; raise max_length or lower max_tiles"
            )
        empty = torch.empty(0, 3, self.tile_size, self.tile_size, dtype=torch.uint8)
        return EncodedPrompt(torch.tensor(prompt), torch.cat(tiles) if tiles else empty)

    def encode_answers(self, record: PreferenceRecord, prompt: EncodedPrompt) -> EncodedPair:
        """Encodes the answers of a pair.

        Args:
            record: the pair.
            prompt: its encoded prompt.

        Raises:
            BadRecord: an answer too long (set_aside), two answers that are the same once cut, or one with nothing to
                train.
        """
        room = self.max_length - len(prompt.ids)
        chosen, rejected = self.answer_ids(record.chosen), self.answer_ids(record.rejected)
        cut = (len(chosen) > room) + (len(rejected) > room)
        if cut and self.overlong == "set_aside":
            raise BadRecord(
                f"prompt and answer have {len(prompt.ids) + max(len(chosen), len(rejected))} tokens, more than "
                f"{self.max_length}; raise max_length"
                " or choose overlong: truncate"
            )
        untrained = self._thinking(chosen), self._thinking(rejected)
        chosen, rejected = chosen[:room], rejected[:room]
        if chosen == rejected:
            raise BadRecord(f"chosen and rejected are the same tokens{' once cut to max_length' if cut else ''}")
        if len(chosen) <= untrained[0] or len(rejected) <= untrained[1]:
            raise BadRecord("an answer has nothing but its thinking, which is not trained; raise max_length")
        if any(untrained) and chosen[untrained[0] :] == rejected[untrained[1] :]:
            raise BadRecord("chosen and rejected differ in their thinking alone, which is not trained")
        return EncodedPair(
            key=record.key,
            prompt_ids=prompt.ids,
            chosen_ids=torch.tensor(chosen),
            rejected_ids=torch.tensor(rejected),
            tiles=prompt.tiles,
            cut=cut,
            untrained=untrained,
        )

    def tiles(self, images: Sequence[bytes], max_tiles: int | None = None) -> list[Tensor]:
        """Cuts each of a pair's images into tiles, uint8 [N, 3, S, S].

        Args:
            images: encoded images.
            max_tiles: the data set's own limit; None means the encoder's.

        Raises:
            BadRecord: an image cannot be used.
        """
        limit = max_tiles or self.max_tiles
        return [self.pictures.cut(open_picture(data, self.pixels), limit, len(images)) for data in images]

    def prompt_ids(self, question: str, tiles_per_image: list[int], system: str | None = None) -> list[int]:
        """Token ids of everything before an answer.

        Args:
            question: question with one `<image>` for each entry of `tiles_per_image`.
            tiles_per_image: number of tiles of each image, including thumbnails.
            system: system message of this prompt alone; None takes the template's.

        Raises:
            BadRecord: the question contains a token that the model was never given.
        """
        self._refuse_untaught(question)
        # Tokenize one image token per image, then repeat it: the same ids as the long text, without its cost.
        marked = question.replace(IMAGE_MARK, self.pictures.mark)
        ids = self.tokenizer(self.template.prompt(marked, system)).input_ids
        image_token = self.tokenizer.convert_tokens_to_ids(self.pictures.token)
        counts = iter(tiles_per_image)
        expanded: list[int] = []
        for token in ids:
            expanded += [token] * (next(counts) * self.tokens_per_tile) if token == image_token else [token]
        return expanded

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of an answer with its end token."""
        self._refuse_untaught(answer)
        return list(self.tokenizer(self.template.answer(answer), add_special_tokens=False).input_ids)

    def begun_ids(self, text: str) -> list[int]:
        """Token ids of the first part of an answer, the same as in the whole answer."""
        return list(self.tokenizer(self.template.begun(text), add_special_tokens=False).input_ids)

    def _thinking(self, answer: list[int]) -> int:
        """Returns how many tokens of an answer are thinking that is not trained: those up to its last end mark.

        Thinking that does not end is the whole answer.
        """
        if self.thinking == "trained":
            return 0
        start, end = (self.tokenizer.convert_tokens_to_ids(mark) for mark in THINKING_MARKS)
        ended = next((place for place in range(len(answer), 0, -1) if answer[place - 1] == end), 0)
        return len(answer) if start in answer[ended:] else ended

    def _refuse_untaught(self, text: str) -> None:
        for mark in self.untaught:
            if mark in text:
                raise BadRecord(f"a text contains {mark}, a token that this model was never given; write it otherwise")
