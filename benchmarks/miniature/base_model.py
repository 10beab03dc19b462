"""The model before it has learned anything: the real InternVL2 architecture with random weights, and a tokenizer for
this world.

The tokenizer is a byte-level BPE over the world's own texts, a digit always a token of its own, so that sums can be
learned. The system message and the prompt for reasoning, the same in every example, are a token each: a laptop spends
its time on what varies.
"""

import random
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from miniature.chains import solution
from miniature.world import draw_problem
from mpo_lightning.evals.benchmarks.prompts import REASONING, WORD
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.family import get_template
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures
from mpo_lightning.models.processor import Processor

WORDS = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s*\n|\s+"
IMAGE_MARKS = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"]


def world_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer."""
    rng = random.Random(0)
    problems = [draw_problem(0, number) for number in range(2000)]
    texts = [f"{problem.question}\n{WORD}\n{solution(problem, rng)}" for problem in problems] + [
        "system\nuser\nassistant\n"
    ] * 10
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", *IMAGE_MARKS],
    )
    sentences = [get_template("Hermes-2").system, REASONING.removesuffix("{question}")]
    wrapped.add_tokens([AddedToken(sentence, normalized=False) for sentence in sentences])
    return wrapped


def write_untrained(output: Path, seed: int) -> int:
    """Writes the checkpoint folder and returns its number of parameters."""
    tokenizer = world_tokenizer()
    vision = InternVLVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=[56, 56],
        patch_size=[14, 14],
        attention_bias=True,
        layer_scale_init_value=1.0,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=320,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    assert isinstance(image_token, int)
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        # Position embeddings start at zero in this class; a trained tower never has that.
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings, std=0.02)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.cls_token, std=0.02)
    save_folder(model.eval(), Processor(tokenizer, get_template("Hermes-2"), InternVLPictures(56, 4)), output)
    return model.num_parameters()
