"""Opening an InternVL2 checkpoint folder: weights, tokenizer, template.

A folder in the original OpenGVLab layout is opened through its converted copy (`opengvlab.cache`). No remote code is run and nothing is downloaded. Weights must be complete: a missing or misshapen tensor stops with its name
instead of being drawn at random.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, InternVLForConditionalGeneration

from mpo_lightning.data.encoding import IMAGE_TOKEN
from mpo_lightning.data.templates import TEMPLATES, ChatTemplate, get_template
from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.opengvlab.cache import native_folder
from mpo_lightning.models.processor import ORIGINAL, Processor

TEMPLATE_OF_TEXT_MODEL = {"qwen2": "Hermes-2", "phi3": "phi3-chat"}


def read_config(folder: str | Path) -> Any:
    """The config of a checkpoint folder, a transformers `InternVLConfig`.

    Raises:
        InputError: no such folder, no config.json, another model, or an original folder that cannot be converted.
    """
    folder = native_folder(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no model here (config.json is missing); give a checkpoint folder, or make one with 'mpo model tiny'"
        )
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the config cannot be read ({error})") from None
    if model_type != "internvl":
        raise InputError(
            f"{folder}: model_type is {model_type!r}; this package trains InternVL models, in transformers' layout ('internvl') or the original "
            "one ('internvl_chat')"
        )
    return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)


def load_model(folder: str | Path, dtype: torch.dtype = torch.float32) -> InternVLForConditionalGeneration:
    """The model of a checkpoint folder in eval mode.

    Args:
        folder: the checkpoint.
        dtype: of its weights; training takes float32.

    Raises:
        InputError: as `read_config`; no weights; or weights that do not fill the model exactly.
    """
    config, folder = read_config(folder), native_folder(folder)
    if not any(Path(folder).glob("*.safetensors")):
        raise InputError(f"{folder}: the checkpoint folder has a config but no weights (*.safetensors); copy them there")
    loaded: Any
    try:
        loaded = InternVLForConditionalGeneration.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
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
    config, folder = read_config(folder), native_folder(folder)
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
    original = Path(folder) / ORIGINAL
    return Processor(tokenizer, _template(folder, config, template), side, tokens, original if original.is_dir() else None)


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
