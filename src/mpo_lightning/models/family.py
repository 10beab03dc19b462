"""A family of models: what differs between vision-language models, behind one protocol.

Nothing outside a family's own folder reaches for its attributes. A family is found by the `model_type` of a checkpoint
folder's config.json, or of a model's config. It is registered in `FAMILIES`, or by `register` for one of your own.

Shape letters: T tokens of a row, N tiles, S tile side in pixels, E hidden size of the language model.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.encoding import Overlong, PairEncoder, Pictures
from mpo_lightning.errors import InputError

Part = Literal["vision_tower", "projector", "language_model"]
Contexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]


@dataclass(frozen=True)
class Processor:
    """What turns pairs into a model's inputs, and is saved beside its weights.

    Attributes:
        tokenizer: the model's.
        template: its chat template.
        pictures: how it takes pictures.
        original: folder of another layout's files, for the way back to it.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    pictures: Pictures
    original: Path | None = None

    @property
    def tile_size(self) -> int:
        return self.pictures.tile_size

    @property
    def tokens_per_tile(self) -> int:
        return self.pictures.tokens_per_tile

    def encoder(self, max_tiles: int, max_length: int, overlong: Overlong) -> PairEncoder:
        """A pair encoder with these limits; see `PairEncoder`."""
        return PairEncoder(self.tokenizer, self.template, self.pictures, max_tiles, max_length, overlong)


@dataclass(frozen=True)
class PictureShape:
    """What pictures are to a model of one config, for plans that have no processor.

    Attributes:
        tile_size: side of a tile in pixels.
        tokens_per_tile: tokens of a tile.
        token_id: the token that stands for a part of a picture.
    """

    tile_size: int
    tokens_per_tile: int
    token_id: int


class Family(ABC):
    """One family. Models are transformers' own: a language model with `layers` and `rotary_emb`, an output embedding,
    `generate`.

    Attributes:
        name: of the family.
        layouts: for each `model_type` of a config.json that it opens, the layout's name in words; the first is
            transformers' own.
        model_class: the transformers class of its models.
        templates: its chat templates by name.
        sizes: configs of its released sizes, for plans without a download.
    """

    name: ClassVar[str]
    layouts: ClassVar[Mapping[str, str]]
    model_class: ClassVar[Any]
    templates: ClassVar[Mapping[str, ChatTemplate]]
    sizes: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    # -- folders

    def native_folder(self, folder: Path) -> Path:
        """The folder in transformers' layout; one in another layout is converted and kept in a cache."""
        return folder

    @abstractmethod
    def fingerprint(self, folder: Path) -> str:
        """Names a native folder's content."""

    @abstractmethod
    def processor(self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, template: str) -> Processor:
        """The processor of a native folder.

        Args:
            folder: the checkpoint.
            config: its config.
            tokenizer: its tokenizer.
            template: a template's name, or "auto" for the one that the folder implies.

        Raises:
            InputError: the tokenizer does not fit the config, or the template is unknown or cannot be told for certain.
        """

    @abstractmethod
    def save_processor(self, processor: Processor, output: Path) -> None:
        """Writes tokenizer, chat template and picture settings, so that plain transformers loads the folder."""

    def config_of(self, folder: Path, model_type: str) -> Any | None:
        """The native config of a folder in another layout, without converting it; None for a native folder."""
        return None

    def convert(self, source: Path, output: Path, layout: str, like: Path | None, advance: Callable[..., None]) -> int:
        """Rewrites a checkpoint in another layout and returns its number of parameters."""
        raise InputError(f"{source}: {self.name} models have one layout only; there is nothing to convert")

    # -- a model's parts

    @abstractmethod
    def parts(self, model: Any) -> dict[Part, list[nn.Module]]:
        """The modules of each part; together they hold every parameter."""

    @abstractmethod
    def language_model(self, model: Any) -> Any:
        """The decoder: input embeddings, `layers`, `rotary_emb`; called with `inputs_embeds`."""

    @abstractmethod
    def layers(self, model: Any) -> list[nn.Module]:
        """The layers of tower and decoder, each computed again as a whole under gradient checkpointing."""

    def shard_units(self, model: Any) -> list[nn.Module]:
        """Modules whose weights are gathered together under FSDP2; the projector is one by itself."""
        return [*self.layers(model), *self.parts(model)["projector"]]

    lora_targets: ClassVar[str] = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w*proj"
    """Pattern of the names of the language model's projections."""

    # -- pictures

    @abstractmethod
    def picture_shape(self, config: Any) -> PictureShape:
        """What pictures are to a model of this config."""

    @abstractmethod
    def encode_pictures(self, model: Any, tiles: Tensor) -> Tensor:
        """Features [N, tokens a tile, E] of uint8 tiles [N, 3, S, S]."""

    @abstractmethod
    def generation_inputs(self, model: Any, tiles: Tensor) -> dict[str, Tensor]:
        """Arguments of the model's `generate` and `forward` for uint8 tiles [N, 3, S, S]; none without tiles."""

    def positions(self, batch: PairBatch) -> Tensor:
        """Position ids [1, T] of a row, each answer counted from the end of its prompt; a family may return more
        dimensions.
        """
        return batch.position_ids.unsqueeze(0)

    @abstractmethod
    def vision_flops(self, config: Any, tiles: Any) -> Any:
        """Matrix-product FLOPs of encoding so many tiles, projector included."""

    # -- stochastic depth

    def add_drop_path(self, model: Any, rate: float) -> None:
        """Puts stochastic depth into the vision tower, with this rate in its last layer.

        Raises:
            InputError: the rate is no rate, or the family has none.
        """
        if rate:
            raise InputError(f"drop_path {rate}: {self.name} models have no drop path here; set it to 0")

    def draw_paths(self, model: Any, seeds: Sequence[int], tile_counts: Sequence[int], device: torch.device) -> None:  # noqa: B027 (nothing to draw)
        """Fixes what the next pass over the tiles of some pairs drops; without seeds it is drawn anew."""

    def recompute_contexts(self, model: Any) -> Contexts | None:
        """`context_fn` of torch's checkpoint, where a layer that is computed again has random numbers to repeat."""
        return None


FAMILIES: list[str | Family] = ["mpo_lightning.models.internvl.family:INTERNVL"]
"""Each family, or "module:NAME" of one that is imported when it is needed."""


def register(family: Family) -> None:
    """Adds a family; of two for one `model_type` the newer one counts."""
    FAMILIES.insert(0, family)


def families() -> list[Family]:
    """All families."""
    for place, entry in enumerate(FAMILIES):
        if isinstance(entry, str):
            module, _, name = entry.partition(":")
            FAMILIES[place] = getattr(importlib.import_module(module), name)
    return [entry for entry in FAMILIES if isinstance(entry, Family)]


def family_for(model_type: str) -> Family | None:
    """The family that opens this `model_type`; None where there is none."""
    return next((family for family in families() if model_type in family.layouts), None)


def family_of(model_or_config: Any) -> Family:
    """The family of a model, or of its config."""
    config = getattr(model_or_config, "config", model_or_config)
    family = family_for(config.model_type)
    assert family is not None, f"no family is registered for {config.model_type}"
    return family


def get_template(name: str) -> ChatTemplate:
    """The chat template of that name, of any family. Raises InputError for an unknown one."""
    known = {template: found for family in families() for template, found in family.templates.items()}
    if name not in known:
        raise InputError(f"unknown chat template '{name}'; known are {', '.join(known)}")
    return known[name]
