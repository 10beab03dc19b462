"""The InternVL family: its layouts, parts, image preprocessing and chat templates."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate, PromptChoice
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Contexts, Family, Part, PictureShape
from mpo_lightning.models.internvl.drop_path import add_drop_path, draw_paths, path_contexts
from mpo_lightning.models.internvl.opengvlab import cache
from mpo_lightning.models.internvl.opengvlab.config import native_config, read_original
from mpo_lightning.models.internvl.opengvlab.names import disk_name
from mpo_lightning.models.internvl.opengvlab.tokenizer import llama_options, original_tokenizer
from mpo_lightning.models.internvl.presets import PRESETS
from mpo_lightning.models.internvl.prompt_format import prompt_format
from mpo_lightning.models.internvl.saving import ORIGINAL, UNTAUGHT, save_processor, saved_max_tiles
from mpo_lightning.models.internvl.templates import SYSTEM_MESSAGES, TEMPLATES
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures, normalize_tiles
from mpo_lightning.models.processor import Processor, read_tokenizer
from mpo_lightning.models.tensor_files import stored_tensors


class InternVL(Family):
    """InternVL models in transformers' layout and in the original OpenGVLab layout."""

    name = "InternVL"
    layouts: ClassVar = {"internvl": "transformers' layout", "internvl_chat": "the original OpenGVLab layout"}
    model_class = InternVLForConditionalGeneration
    templates: ClassVar = TEMPLATES
    system_messages: ClassVar = SYSTEM_MESSAGES
    sizes: ClassVar = {name: preset.config for name, preset in PRESETS.items()}

    def native_folder(self, folder: Path) -> Path:
        return cache.native_folder(folder)

    def fingerprint(self, folder: Path) -> str:
        return cache.fingerprint(folder)

    def read_config(self, folder: Path) -> Any:
        config = super().read_config(folder)
        _settle_tie(folder, config)
        config.text_config.rope_parameters.pop("type", None)  # the older name of rope_type, which stands beside it
        if hasattr(config.text_config, "output_router_logits"):
            config.text_config.output_router_logits = False  # transformers' InternVL cannot return them
        return config

    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        if cache.is_original(folder):
            return original_tokenizer(folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return read_tokenizer(folder, **llama_options(settings))

    def prompt(
        self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
    ) -> tuple[ChatTemplate, str]:
        return prompt_format(folder, config.text_config.model_type, tokenizer, choice)

    def pictures(self, config: Any) -> InternVLPictures:
        side, patch = config.vision_config.image_size[0], config.vision_config.patch_size[0]
        return InternVLPictures(side, int(side // patch * config.downsample_ratio) ** 2)

    def processor(
        self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
    ) -> Processor:
        token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if token != config.image_token_id:
            raise InputError(
                f"{folder}: the tokenizer gives {IMAGE_TOKEN} the id {token}, but the config's image_token_id is "
                f"{config.image_token_id}"
            )
        original = folder / ORIGINAL
        return replace(
            super().processor(folder, config, tokenizer, choice),
            original=original if original.is_dir() else None,
            max_tiles=saved_max_tiles(folder) or DEFAULT_MAX_TILES,
            untaught=tuple(set(UNTAUGHT) & tokenizer.get_added_vocab().keys()),
        )

    def save_processor(self, processor: Processor, output: Path) -> None:
        save_processor(processor, output)

    def config_of(self, folder: Path, model_type: str) -> Any | None:
        return native_config(read_original(folder), 0, str(folder)) if model_type == "internvl_chat" else None

    def layout(self, folder: Path) -> str:
        if cache.is_original(folder):
            return "opengvlab"
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return "transformers" if "template" in config else "hf"

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
        from mpo_lightning.models.internvl.hf_layout import to_native_layout
        from mpo_lightning.models.internvl.opengvlab.convert import to_opengvlab, to_transformers

        if layout == "opengvlab":
            return to_opengvlab(source, output, like, advance, choice)
        if layout == "transformers" and cache.is_original(source) and dynamic_rope:
            return to_transformers(source, output, advance, choice)
        native = self.native_folder(source)
        return to_native_layout(
            self, native, output, layout=layout, choice=choice, dynamic_rope=dynamic_rope, progress=advance
        )

    def parts(self, model: Any) -> dict[Part, list[nn.Module]]:
        return {
            "vision_tower": [model.model.vision_tower],
            "projector": [model.model.multi_modal_projector],
            "language_model": [model.model.language_model, model.lm_head],
        }

    def language_model(self, model: Any) -> Any:
        return model.model.language_model

    def layers(self, model: Any) -> list[nn.Module]:
        return [*model.model.vision_tower.encoder.layer, *model.model.language_model.layers]

    def shard_units(self, model: Any) -> list[nn.Module]:
        return [
            *model.model.vision_tower.encoder.layer,
            model.model.multi_modal_projector,
            *model.model.language_model.layers,
        ]

    def picture_shape(self, config: Any) -> PictureShape:
        return PictureShape(config.vision_config.image_size[0], config.image_seq_length, config.image_token_id)

    def encode_pictures(self, model: Any, tiles: Tensor) -> Tensor:
        features: Tensor = model.model.get_image_features(
            pixel_values=normalize_tiles(tiles), return_dict=True
        ).pooler_output
        return features

    def generation_inputs(self, model: Any, tiles: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": normalize_tiles(tiles).to(model.dtype)} if len(tiles) else {}

    def vision_flops(self, config: Any, tiles: Any) -> Any:
        vision, text = config.vision_config, config.text_config
        patches = (vision.image_size[0] // vision.patch_size[0]) ** 2
        tokens, hidden = patches + 1, vision.hidden_size
        layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * vision.intermediate_size) + 4 * tokens**2 * hidden
        embed = 2 * patches * 3 * vision.patch_size[0] ** 2 * hidden
        wide = hidden * int(1 / config.downsample_ratio) ** 2
        projector = 2 * patches * config.downsample_ratio**2 * (wide * text.hidden_size + text.hidden_size**2)
        return tiles * (vision.num_hidden_layers * layer + embed + projector)

    def add_drop_path(self, model: Any, rate: float) -> None:
        add_drop_path(model, rate)

    def draw_paths(self, model: Any, seeds: Sequence[int], tile_counts: Sequence[int], device: torch.device) -> None:
        draw_paths(model, seeds, tile_counts, device)

    def recompute_contexts(self, model: Any) -> Contexts | None:
        return path_contexts(model)


def _settle_tie(folder: Path, config: Any) -> None:
    """Sets whether head and embedding share a tensor by what is stored.

    The published -hf configs do not say, and transformers then takes them for tied: a model built from such a config
    would lose one of two different tensors.
    """
    try:
        stored = {disk_name(name): tensor for name, tensor in stored_tensors(folder).items()}
    except InputError:
        return  # no weights, as for a plan
    head, embedding = (stored.get(f"language_model.{name}.weight") for name in ("lm_head", "model.embed_tokens"))
    declared = "tie_word_embeddings" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tied = head is None or (
        declared
        and config.tie_word_embeddings
        and embedding is not None
        and head.shape == embedding.shape
        and torch.equal(head.load(), embedding.load())
    )
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied


INTERNVL = InternVL()
