"""Writes native folders: transformers' classes and tensor names, with the prompt on record or as the hub's -hf have it.

Both layouts have the same tensors. The published `-hf` folders come from transformers 4.5x: their config.json has no
prompt and spells the rope in the older way, which releases from 4.52 on read. Folders in the layout `transformers` are
those that this package trains and exports: config.json also names the template and the system message.
"""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from mpo_lightning.data.chat_template import PromptChoice
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import whole_folder
from mpo_lightning.models.export import generation_config
from mpo_lightning.models.family import Family
from mpo_lightning.models.internvl.native_tensors import (
    NATIVE_HEAD,
    Progress,
    drop_tied_head,
    native_shapes,
    refuse_other_names,
    refuse_other_shape,
    write_tensors,
)
from mpo_lightning.models.internvl.opengvlab.names import disk_name
from mpo_lightning.models.internvl.prompt_format import PROMPT_OPEN, kept_prompt, prompt_format
from mpo_lightning.models.internvl.saving import ORIGINAL, is_licence, save_processor, saved_max_tiles
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.tensor_files import dtype_of, stored_tensors

NOT_PUBLISHED = ("template", "system_message", "original_architecture", "trained_newline", PROMPT_OPEN)


def to_native_layout(
    family: Family,
    source: Path,
    output: Path,
    *,
    layout: str,
    choice: PromptChoice,
    dynamic_rope: bool,
    progress: Progress,
) -> tuple[int, bool]:
    """Rewrites a native folder in one of the two native layouts.

    Args:
        family: the family of the model.
        source: checkpoint folder in either native layout, with or without `model.` in its tensors' names.
        output: output folder; must not exist.
        layout: the layout to write, "transformers" or "hf".
        choice: what the options say of the prompt.
        dynamic_rope: whether a dynamic rope is kept. It stretches sequences beyond the model's length, as transformers
            and the code of InternLM2 do; the code that trained InternVL2.5 and 3 with Qwen2 (transformers 4.37) does
            not.
        progress: called after each tensor with bytes written and total bytes.

    Returns:
        Number of parameters, and whether the prompt is certain.

    Raises:
        InputError: the source is not complete, or the prompt has to be known and is not.
    """
    config = family.read_config(source)
    tokenizer, kind = family.tokenizer(source), config.text_config.model_type
    text = config.text_config
    if not dynamic_rope and text.rope_parameters.get("rope_type") != "dynamic":
        raise InputError(f"{source}: --dynamic_rope false: its rope is not dynamic; leave the option out")
    if not dynamic_rope:
        text.rope_parameters = {"rope_type": "default", "rope_theta": text.rope_parameters["rope_theta"]}
    original = source / ORIGINAL if layout == "transformers" and (source / ORIGINAL).is_dir() else None
    template, certain = kept_prompt(source, kind, tokenizer, choice)
    if layout == "transformers" and not certain and original is None:
        prompt_format(source, kind, tokenizer, choice)  # says what is missing
    if layout == "transformers" and certain:
        config.template, config.system_message = template.name, template.system_message
    tensors = {disk_name(tensor.name): tensor for tensor in stored_tensors(source).values()}
    drop_tied_head(tensors, config.tie_word_embeddings, NATIVE_HEAD, source)
    shapes = native_shapes(config)
    refuse_other_names(set(shapes), set(tensors), source)
    for name, tensor in tensors.items():
        refuse_other_shape(tensor, shapes[name])
    config.dtype = dtype_of(tensors.values())
    config.architectures = ["InternVLForConditionalGeneration"]
    tiles = saved_max_tiles(source) or DEFAULT_MAX_TILES
    processor = Processor(tokenizer, template, family.pictures(config), original, tiles)
    with whole_folder(output) as folder:
        write_tensors(((name, tensor.load()) for name, tensor in tensors.items()), folder, tensors, progress)
        if layout == "transformers":
            config.save_pretrained(folder)
        else:
            written = published_config(config) | ({} if certain else {PROMPT_OPEN: True})
            (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
            for path in (*source.glob("*"), *(source / ORIGINAL).glob("*")):
                if is_licence(path.name):
                    shutil.copyfile(path, folder / path.name)
        generation_config(processor).save_pretrained(folder)
        save_processor(processor, folder)
    return sum(torch.Size(shape).numel() for shape in shapes.values()), certain


def published_config(config: Any) -> dict[str, Any]:
    """Returns config.json in the form of the published -hf folders, which transformers 4.52 to 5 read alike.

    Raises:
        InputError: a setting cannot be written in the older way.
    """
    values = _without_defaults(config.to_dict())
    text = values["text_config"] = _without_defaults(values["text_config"])
    values["vision_config"] = _without_defaults(values["vision_config"])
    if (architecture := getattr(config, "original_architecture", None)) is not None:
        text["architectures"] = [architecture]  # as published: it tells InternLM2 from Llama
    if text["model_type"] == "qwen3_moe":
        text["num_experts"] = text.pop("num_local_experts")
    rope = text.pop("rope_parameters")
    if any(isinstance(value, dict) for value in rope.values()):
        raise InputError("the layers' ropes differ, which the -hf layout cannot express; write the layout transformers")
    text["rope_theta"] = rope["rope_theta"]
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    plain = rope.get("rope_type", "default") == "default"
    # A null would bring back the default of GPT-OSS's class, which is YaRN.
    text["rope_scaling"] = None if plain and text["model_type"] != "gpt_oss" else scaling
    if "original_max_position_embeddings" in rope and text["model_type"] == "phi3":
        text["original_max_position_embeddings"] = scaling.pop("original_max_position_embeddings")
    for part in (values, text, values["vision_config"]):
        if (dtype := part.pop("dtype", None)) is not None:
            part["torch_dtype"] = dtype
    reread = type(config).from_dict(deepcopy(values))
    for name in ("text_config", "vision_config"):
        ours, theirs = getattr(config, name).to_dict(), getattr(reread, name).to_dict()
        for key in sorted(ours.keys() - GENERIC - {"dtype", "architectures"}):
            if ours[key] != theirs.get(key) and key[0] != "_":
                raise InputError(f"{name}.{key} is {ours[key]}, which the -hf layout would read as {theirs.get(key)}")
    return values


GENERIC = set(PretrainedConfig().to_dict()) - {"architectures", "dtype", "tie_word_embeddings", "model_type"}
"""Settings that every config has and that no model's arithmetic depends on."""


def _without_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a config without what this package notes in it and without what every config has."""
    kept = {"bos_token_id", "eos_token_id", "pad_token_id"}
    return {
        name: value
        for name, value in values.items()
        if name not in NOT_PUBLISHED and not name.startswith("_") and (name not in GENERIC or name in kept)
    }
