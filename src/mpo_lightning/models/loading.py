"""Opening an InternVL2 checkpoint folder in the transformers layout: weights, tokenizer, template.

No remote code is run and nothing is downloaded. Weights must be complete: a missing or misshapen tensor stops with its name
instead of being drawn at random.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, InternVLForConditionalGeneration, PreTrainedTokenizerBase

from mpo_lightning.data.encoding import IMAGE_TOKEN, Overlong, PairEncoder
from mpo_lightning.data.templates import TEMPLATES, ChatTemplate, get_template
from mpo_lightning.errors import InputError

TEMPLATE_OF_TEXT_MODEL = {"qwen2": "Hermes-2", "phi3": "phi3-chat"}


@dataclass(frozen=True)
class Processor:
    """What turns pairs into a model's inputs, and is saved beside its weights.

    Attributes:
        tokenizer: the model's.
        template: its chat template.
        tile_size: side of a tile in pixels.
        tokens_per_tile: image tokens that a tile becomes.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate
    tile_size: int
    tokens_per_tile: int

    def encoder(self, max_tiles: int, max_length: int, overlong: Overlong) -> PairEncoder:
        """A pair encoder with these limits; see `PairEncoder`."""
        return PairEncoder(self.tokenizer, self.template, self.tile_size, self.tokens_per_tile, max_tiles, max_length, overlong)


def read_config(folder: str | Path) -> Any:
    """The config of a checkpoint folder, a transformers `InternVLConfig`.

    Raises:
        InputError: no such folder, no config.json, or a layout other than transformers' InternVL.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no model here (config.json is missing); give a checkpoint folder, or make one with 'mpo model tiny'"
        )
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the config cannot be read ({error})") from None
    if model_type == "internvl_chat":
        raise InputError(
            f"{folder}: this is the original OpenGVLab layout (model_type internvl_chat); use a checkpoint in the transformers layout "
            "(model_type internvl, such as the '-hf' repositories)"
        )
    if model_type != "internvl":
        raise InputError(
            f"{folder}: model_type is {model_type!r}; this package trains InternVL models in the transformers layout ('internvl')"
        )
    return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)


def load_model(folder: str | Path) -> InternVLForConditionalGeneration:
    """The model of a checkpoint folder with float32 weights, in eval mode.

    Raises:
        InputError: as `read_config`; no weights; or weights that do not fill the model exactly.
    """
    config = read_config(folder)
    if not any(Path(folder).glob("*.safetensors")):
        raise InputError(f"{folder}: the checkpoint folder has a config but no weights (*.safetensors); copy them there")
    loaded: Any
    try:
        loaded = InternVLForConditionalGeneration.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            use_safetensors=True,
        )
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{folder}: the weights cannot be loaded ({str(error).strip().splitlines()[0]})") from None
    model, report = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(problem):
            names = sorted(map(str, report[problem]))
            raise InputError(
                f"{folder}: the weights do not fit the config: {problem.replace('_', ' ')} {names[0]} (and {len(names) - 1} more)"
            )
    return model.eval()


def load_processor(folder: str | Path, template: str = "auto") -> Processor:
    """The tokenizer, template and sizes of a checkpoint folder.

    Args:
        folder: the checkpoint.
        template: a template's name, or "auto" for the one that the config names or the language model implies.

    Raises:
        InputError: as `read_config`; no usable tokenizer; image tokens that do not match; or a template that is not known.
    """
    config = read_config(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(f"{folder}: the tokenizer cannot be loaded ({str(error).strip().splitlines()[0]})") from None
    token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if token != config.image_token_id:
        raise InputError(
            f"{folder}: the tokenizer has {IMAGE_TOKEN} at {token} but the config's image_token_id is {config.image_token_id}"
        )
    side, patch = config.vision_config.image_size[0], config.vision_config.patch_size[0]
    tokens = int(side // patch * config.downsample_ratio) ** 2
    return Processor(tokenizer, _template(folder, config, template), side, tokens)


def _template(folder: str | Path, config: Any, name: str) -> ChatTemplate:
    if name != "auto":
        return get_template(name)
    found = getattr(config, "template", None) or TEMPLATE_OF_TEXT_MODEL.get(config.text_config.model_type)
    if found is None:
        raise InputError(
            f"{folder}: the config names no chat template and a {config.text_config.model_type} language model may have several; "
            f"set data.template to one of {', '.join(TEMPLATES)}"
        )
    return get_template(found)
