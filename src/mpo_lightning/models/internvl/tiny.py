"""A tiny InternVL2 with random weights: the real architecture at a size that trains on a laptop.

It uses the classes, code paths and template of InternVL2-1B (Qwen2 language model) and the tokenizer that
ships with this package. Tiles have 112 pixels and become 16 image tokens each.
"""

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from mpo_lightning.data.shards.sample import tokenizer_folder
from mpo_lightning.files.whole import whole_folder
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.internvl.templates import HERMES
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures
from mpo_lightning.models.processor import Processor


def tiny_config(tokenizer: PreTrainedTokenizerBase) -> InternVLConfig:
    """Returns the config of the tiny model, which has 1.2 M parameters."""
    vision = InternVLVisionConfig(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=[112, 112],
        patch_size=[14, 14],
        attention_bias=True,
        layer_scale_init_value=0.1,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=256,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert isinstance(image_token, int)
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token,
        image_seq_length=16,
        tie_word_embeddings=False,
    )


def tiny_model(seed: int) -> tuple[InternVLForConditionalGeneration, Processor]:
    """Returns the model with random float32 weights and its processor; the global random state is unchanged."""
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder()), local_files_only=True)
    config = tiny_config(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        # This class initializes position embeddings to zero, which a trained tower never has.
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings, std=0.02)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.cls_token, std=0.02)
    return model.eval(), Processor(tokenizer, HERMES, InternVLPictures(112, 16))


def write_tiny_model(output: Path, seed: int = 0) -> int:
    """Writes the tiny model as a checkpoint folder and returns its number of parameters."""
    model, processor = tiny_model(seed)
    with whole_folder(output) as partial:
        save_folder(model, processor, partial)
    return model.num_parameters()
