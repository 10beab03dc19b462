"""Model families: one protocol for everything that differs between vision-language models.

Only a family's own folder uses its model's attributes. A family is found by `model_type`, in a checkpoint folder's
config.json or in a model's config. Families are listed in `FAMILIES`; `register` adds one of your own.

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
from transformers import AutoConfig, PreTrainedTokenizerBase

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.data.chat_template import ChatTemplate, PromptChoice
from mpo_lightning.data.encoding import Pictures
from mpo_lightning.errors import InputError
from mpo_lightning.models.processor import Processor, read_tokenizer

Part = Literal["vision_tower", "projector", "language_model"]
Contexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]


@dataclass(frozen=True)
class PictureShape:
    """Image sizes of a config, for memory plans without a processor.

    Attributes:
        tile_size: side of a tile in pixels.
        tokens_per_tile: image tokens per tile.
        token_id: id of the image token.
    """

    tile_size: int
    tokens_per_tile: int
    token_id: int


class Family(ABC):
    """A model family.

    Its models are transformers' own: a language model with `layers` and `rotary_emb`, an output embedding, and
    `generate`.

    Attributes:
        name: name of the family.
        layouts: name of the layout for each `model_type` in config.json that the family opens; transformers' own comes
            first.
        model_class: transformers class of the models.
        templates: chat templates by name.
        system_messages: system messages that options may name.
        sizes: configs of the released sizes, for plans that need no download.
    """

    name: ClassVar[str]
    layouts: ClassVar[Mapping[str, str]]
    model_class: ClassVar[Any]
    templates: ClassVar[Mapping[str, ChatTemplate]]
    system_messages: ClassVar[Mapping[str, str]] = {}
    sizes: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    # -- folders

    def native_folder(self, folder: Path) -> Path:
        """Returns the folder in transformers' layout; another layout is converted once and cached."""
        return folder

    @abstractmethod
    def fingerprint(self, folder: Path) -> str:
        """Returns a fingerprint of a native folder's content."""

    def read_config(self, folder: Path) -> Any:
        """Returns the config of a native folder."""
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)

    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        """Returns the tokenizer of a folder in any layout, without converting it.

        Raises:
            InputError: it cannot be loaded.
        """
        return read_tokenizer(folder)

    def prompt(
        self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
    ) -> tuple[ChatTemplate, str]:
        """Returns the chat template of a folder in any layout, with its system message, and where it comes from.

        Args:
            folder: checkpoint folder.
            config: config of the model.
            tokenizer: tokenizer of the model.
            choice: what the options say of the prompt.

        Raises:
            InputError: the prompt is not certain.
        """
        name = next(iter(self.templates)) if choice.template == "auto" else choice.template
        return get_template(name, choice.system_message), "the family"

    @abstractmethod
    def pictures(self, config: Any) -> Pictures:
        """Returns how models with this config take images."""

    def processor(
        self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
    ) -> Processor:
        """Returns the processor of a native folder; see `prompt`.

        Raises:
            InputError: the tokenizer does not fit the config, or the prompt is not certain.
        """
        template, source = self.prompt(folder, config, tokenizer, choice)
        return Processor(tokenizer, template, self.pictures(config), prompt_source=source)

    @abstractmethod
    def save_processor(self, processor: Processor, output: Path) -> None:
        """Writes tokenizer, chat template and image settings, so that plain transformers loads the folder."""

    def config_of(self, folder: Path, model_type: str) -> Any | None:
        """Returns the native config of a folder in another layout, without converting it; None for a native folder."""
        return None

    def layout(self, folder: Path) -> str:
        """Returns the name of a folder's layout, as `convert` takes it."""
        return "transformers"

    def convert(
        self,
        source: Path,
        output: Path,
        layout: str,
        like: Path | None,
        advance: Callable[..., None],
        choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
        dynamic_rope: bool = True,
    ) -> tuple[int, bool]:
        """Converts a checkpoint to another layout.

        Args:
            source: checkpoint folder.
            output: a new folder.
            layout: name of the layout to write.
            like: folder in that layout of the same model, for the files other than weights.
            advance: called after each tensor with the bytes written and the bytes in all.
            choice: what the options say of the prompt.
            dynamic_rope: whether the written config keeps a dynamic rope.

        Returns:
            Its number of parameters, and whether its prompt is certain.
        """
        raise InputError(f"{source}: {self.name} models have one layout only; there is nothing to convert")

    # -- a model's parts

    @abstractmethod
    def parts(self, model: Any) -> dict[Part, list[nn.Module]]:
        """Returns the modules of each part; together they hold every parameter."""

    @abstractmethod
    def language_model(self, model: Any) -> Any:
        """Returns the decoder, which has input embeddings, `layers` and `rotary_emb` and takes `inputs_embeds`."""

    @abstractmethod
    def layers(self, model: Any) -> list[nn.Module]:
        """Returns the layers of tower and decoder; gradient checkpointing recomputes each as a unit."""

    def shard_units(self, model: Any) -> list[nn.Module]:
        """Returns the modules whose weights FSDP2 gathers together; the projector is a unit of its own."""
        return [*self.layers(model), *self.parts(model)["projector"]]

    lora_targets: ClassVar[str] = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w*proj"
    """Regular expression for the names of the language model's projections."""

    lora_experts: ClassVar[Sequence[str]] = ("experts.gate_up_proj", "experts.down_proj")
    """Ends of the names of the weights in which a mixture of experts has all experts."""

    # -- images

    @abstractmethod
    def picture_shape(self, config: Any) -> PictureShape:
        """Returns the image sizes of this config."""

    @abstractmethod
    def encode_pictures(self, model: Any, tiles: Tensor) -> Tensor:
        """Returns the features [N, tokens per tile, E] of uint8 tiles [N, 3, S, S]."""

    @abstractmethod
    def generation_inputs(self, model: Any, tiles: Tensor) -> dict[str, Tensor]:
        """Returns the arguments of `generate` and `forward` for uint8 tiles [N, 3, S, S]; empty without tiles."""

    def positions(self, batch: PairBatch) -> Tensor:
        """Returns position ids [1, T] of a row; the positions of each response continue from its prompt.

        A family may return more dimensions.
        """
        return batch.position_ids.unsqueeze(0)

    @abstractmethod
    def vision_flops(self, config: Any, tiles: Any) -> Any:
        """Returns the matrix-product FLOPs of encoding `tiles` tiles, projector included."""

    # -- stochastic depth

    def add_drop_path(self, model: Any, rate: float) -> None:
        """Adds stochastic depth to the vision tower, with this rate in its last layer.

        Raises:
            InputError: the rate is out of range, or the family has no stochastic depth.
        """
        if rate:
            raise InputError(f"drop_path {rate}: {self.name} models have no drop path here; set it to 0")

    def draw_paths(self, model: Any, seeds: Sequence[int], tile_counts: Sequence[int], device: torch.device) -> None:  # noqa: B027 (nothing to draw)
        """Fixes which branches the next pass over the pairs' tiles drops; without seeds each pass draws anew."""

    def recompute_contexts(self, model: Any) -> Contexts | None:
        """Returns torch checkpoint's `context_fn` if recomputed layers must repeat random numbers, else None."""
        return None


FAMILIES: list[str | Family] = ["mpo_lightning.models.internvl.family:INTERNVL"]
"""The families, or "module:NAME" of those that are imported on first use."""


def register(family: Family) -> None:
    """Adds a family; it takes precedence over earlier ones with the same `model_type`."""
    FAMILIES.insert(0, family)


def families() -> list[Family]:
    """Returns all families, importing those not yet imported."""
    for place, entry in enumerate(FAMILIES):
        if isinstance(entry, str):
            module, _, name = entry.partition(":")
            FAMILIES[place] = getattr(importlib.import_module(module), name)
    return [entry for entry in FAMILIES if isinstance(entry, Family)]


def family_for(model_type: str) -> Family | None:
    """Returns the family that opens this `model_type`, or None."""
    return next((family for family in families() if model_type in family.layouts), None)


def family_of(model_or_config: Any) -> Family:
    """Returns the family of a model or of a model's config."""
    config = getattr(model_or_config, "config", model_or_config)
    family = family_for(config.model_type)
    assert family is not None, f"no family is registered for {config.model_type}"
    return family


def get_template(name: str, system_message: str = "auto") -> ChatTemplate:
    """Returns the chat template of this name from any family.

    Args:
        name: name of the template.
        system_message: see `PromptChoice`; "auto" is the template's own.

    Raises:
        InputError: no family has a template of this name.
    """
    known = {template: family for family in families() for template in family.templates}
    if name not in known:
        raise InputError(f"unknown chat template '{name}'; known are {', '.join(known)}")
    template = known[name].templates[name]
    texts = {"auto": template.system, "default": template.system, "none": "", **known[name].system_messages}
    return template.with_system(texts.get(system_message, system_message))
