"""The InternVL family: its layouts, parts, image preprocessing and chat templates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Contexts, Family, Part, PictureShape, Processor
from mpo_lightning.models.internvl.drop_path import add_drop_path, draw_paths, path_contexts
from mpo_lightning.models.internvl.opengvlab import cache
from mpo_lightning.models.internvl.opengvlab.config import native_config, read_original
from mpo_lightning.models.internvl.presets import PRESETS
from mpo_lightning.models.internvl.saving import ORIGINAL, save_processor, saved_max_tiles
from mpo_lightning.models.internvl.templates import TEMPLATE_OF_TEXT_MODEL, TEMPLATES
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures, normalize_tiles


class InternVL(Family):
    """InternVL models in transformers' layout and in the original OpenGVLab layout."""

    name = "InternVL"
    layouts: ClassVar = {"internvl": "transformers' layout", "internvl_chat": "the original OpenGVLab layout"}
    model_class = InternVLForConditionalGeneration
    templates: ClassVar = TEMPLATES
    sizes: ClassVar = {name: preset.config for name, preset in PRESETS.items()} | {
        f"internvl2-{name}": preset.config for name, preset in PRESETS.items()
    }

    def native_folder(self, folder: Path) -> Path:
        return cache.native_folder(folder)

    def fingerprint(self, folder: Path) -> str:
        return cache.fingerprint(folder)

    def processor(self, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, template: str) -> Processor:
        token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if token != config.image_token_id:
            raise InputError(
                f"{folder}: the tokenizer gives {IMAGE_TOKEN} the id {token}, but the config's image_token_id is "
                f"{config.image_token_id}"
            )
        side, patch = config.vision_config.image_size[0], config.vision_config.patch_size[0]
        pictures = InternVLPictures(side, int(side // patch * config.downsample_ratio) ** 2)
        original = folder / ORIGINAL
        return Processor(
            tokenizer,
            _template(folder, config, template),
            pictures,
            original=original if original.is_dir() else None,
            max_tiles=saved_max_tiles(folder) or DEFAULT_MAX_TILES,
        )

    def save_processor(self, processor: Processor, output: Path) -> None:
        save_processor(processor, output)

    def config_of(self, folder: Path, model_type: str) -> Any | None:
        return native_config(read_original(folder), 0, str(folder)) if model_type == "internvl_chat" else None

    def convert(self, source: Path, output: Path, layout: str, like: Path | None, advance: Callable[..., None]) -> int:
        from mpo_lightning.models.internvl.opengvlab.convert import to_opengvlab, to_transformers

        return (
            to_transformers(source, output, advance)
            if layout == "transformers"
            else to_opengvlab(source, output, like, advance)
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


def _template(folder: Path, config: Any, name: str) -> ChatTemplate:
    found = (
        name
        if name != "auto"
        else getattr(config, "template", None) or TEMPLATE_OF_TEXT_MODEL.get(config.text_config.model_type)
    )
    if found is None:
        raise InputError(
            f"{folder}: the config names no chat template and a {config.text_config.model_type} language model may "
            "have several; "
            f"set data.template to one of {', '.join(TEMPLATES)}"
        )
    if found not in TEMPLATES:
        raise InputError(f"unknown chat template '{found}'; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[found]


INTERNVL = InternVL()
