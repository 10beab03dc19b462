"""Saving a checkpoint folder that plain transformers can load."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from mpo_lightning.models.family import Processor, family_of


def save_folder(model: Any, processor: Processor, output: Path, state_dict: dict[str, Tensor] | None = None) -> None:
    """Writes weights, config, tokenizer with chat template, image settings and generation config.

    Args:
        model: the model to save.
        processor: processor of the model; the name of its template goes into config.json.
        output: output folder; created if missing.
        state_dict: weights to write instead of the model's own, such as those gathered from shards.
    """
    output.mkdir(parents=True, exist_ok=True)
    model.config.template = processor.template.name
    model.generation_config = generation_config(processor)
    model.save_pretrained(output, state_dict=state_dict)
    family_of(model).save_processor(processor, output)


def generation_config(processor: Processor) -> GenerationConfig:
    """Returns a config for greedy decoding that stops at the template's end-of-turn token."""
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(processor.template.end)
    return GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False)
