"""Writing a checkpoint folder that plain transformers loads."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from mpo_lightning.models.family import Processor, family_of


def save_folder(model: Any, processor: Processor, output: Path, state_dict: dict[str, Tensor] | None = None) -> None:
    """Writes weights, config, tokenizer with chat template, image settings and generation config.

    Args:
        model: what to save.
        processor: of the model; its template's name goes into config.json.
        output: the folder, made if missing.
        state_dict: weights to write instead of the model's own (gathered ones under sharding).
    """
    output.mkdir(parents=True, exist_ok=True)
    model.config.template = processor.template.name
    model.generation_config = generation_config(processor)
    model.save_pretrained(output, state_dict=state_dict)
    family_of(model).save_processor(processor, output)


def generation_config(processor: Processor) -> GenerationConfig:
    """Greedy decoding that stops where the template ends a turn."""
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(processor.template.end)
    return GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False)
