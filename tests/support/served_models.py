"""Tiny models of three kinds of language model, with dimensions that real servers run."""

from pathlib import Path

import torch
from transformers import AutoConfig, InternVLForConditionalGeneration

from mpo_lightning.commands.model import convert
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.models.loading import load_processor

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGINALS = {
    "internlm2": (GOLDEN / "checkpoints" / "internlm2_gqa", "auto"),
    "qwen3": (GOLDEN / "now" / "checkpoints" / "internvl3_5_qwen3", "default"),
}
"""Of the kinds that are not the tiny model's: a folder with tokenizer and template, and the system message."""

KINDS = ("qwen2", *ORIGINALS)


def write_served(kind: str, output: Path) -> Path:
    """Writes a model of a kind as a native folder: the golden tokenizer and prompt, random weights."""
    if kind == "qwen2":
        write_tiny_model(output)
        return output
    source, system = ORIGINALS[kind]
    convert(str(source), str(output.with_name(f"{output.name}-golden")), system_message=system)
    folder = output.with_name(f"{output.name}-golden")
    processor = load_processor(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    text = config.text_config
    text.hidden_size, text.num_attention_heads, text.num_key_value_heads, text.head_dim = 128, 4, 2, 32
    text.intermediate_size, text.max_position_embeddings = 256, 4096
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = InternVLForConditionalGeneration(config)
        for parameter in model.parameters():  # as different from each other as trained ones
            torch.nn.init.normal_(parameter, std=0.05)
    save_folder(model.eval(), processor, output)
    return output
