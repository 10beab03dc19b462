"""Saving a checkpoint folder that plain transformers can load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from mpo_lightning.errors import InputError
from mpo_lightning.models.family import family_of
from mpo_lightning.models.processor import Processor


def save_folder(
    model: Any,
    processor: Processor,
    output: Path,
    state_dict: dict[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes weights, config, tokenizer with chat template, image settings and generation config.

    Args:
        model: the model to save.
        processor: processor of the model; its template and system message go into config.json.
        output: output folder; created if missing.
        state_dict: weights to write instead of the model's own, such as those gathered from shards.
        dtype: dtype of the weights in the folder; None keeps theirs.
    """
    output.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        own = model.state_dict() if state_dict is None else state_dict
        state_dict = _as_dtype(own, dtype)
        refuse_nonfinite(state_dict, "the weights to write", "choose a dtype of a larger range, or other weights")
    model.config.template = processor.template.name
    model.config.system_message = processor.template.system_message
    model.config.trained_newline = processor.template.trained_newline
    model.generation_config = generation_config(processor)
    model.save_pretrained(output, state_dict=state_dict)
    if dtype is not None:
        path = output / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"dtype": str(dtype).removeprefix("torch.")}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    family_of(model).save_processor(processor, output)


def generation_config(processor: Processor) -> GenerationConfig:
    """Returns a config for greedy decoding that stops at the template's end tokens."""
    tokenizer = processor.tokenizer
    ends = [tokenizer.convert_tokens_to_ids(end) for end in processor.template.ends]
    return GenerationConfig(
        eos_token_id=ends if len(ends) > 1 else ends[0], pad_token_id=tokenizer.pad_token_id, do_sample=False
    )


def refuse_nonfinite(weights: Mapping[str, Tensor], where: str, way_out: str) -> None:
    """Raises InputError for weights that hold infinities or NaN, with what to do about it."""
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{where}: {name} holds numbers that are not finite in {str(value.dtype)[6:]}; {way_out}")


def _as_dtype(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the weights in a dtype; names that share a tensor share the result, so that it is stored once."""
    cast: dict[tuple[int, torch.Size], Tensor] = {}
    for value in weights.values():
        key = (value.data_ptr(), value.shape)
        if key not in cast:
            cast[key] = value.to(dtype) if value.is_floating_point() else value
    return {name: cast[value.data_ptr(), value.shape] for name, value in weights.items()}
