"""Matrix-product FLOPs of the distinct work of a pair or a question, from shapes: the minimum that any step needs.

A product [a, b] x [b, c] is 2abc. Attention counts only the score products that the causal pattern needs, twice (scores
and values). All functions count one forward pass. A trained part costs three (one forward, two products backward), a
reference pass one. Recomputation is not counted.

Of a mixture of experts the chosen experts count, and the router.

Token counts may be arrays with one entry per pair.
"""

from typing import Any

import numpy as np

from mpo_lightning.models.family import family_of


def attention_flops(config: Any, tokens: Any, behind: Any = 0) -> Any:
    """Returns the FLOPs of the language model's score and value products of tokens that follow `behind` others.

    A layer with a sliding window counts the products within it.
    """
    text = config.get_text_config()
    layers, kinds = text.num_hidden_layers, getattr(text, "layer_types", None) or ()
    windowed, window = kinds.count("sliding_attention"), getattr(text, "sliding_window", None)
    if not kinds and window:  # every layer, as in Phi-3
        windowed = layers
    scores = 0.0
    for count, width in ((layers - windowed, None), (windowed, window)):
        scores = scores + count * (_seen(behind + tokens, width) - _seen(behind, width))
    return 4.0 * scores * text.num_attention_heads * _head_size(text)


def _seen(tokens: Any, window: int | None = None) -> Any:
    """Returns the pairs of query and key of a causal sequence, half a square; with a window, its band."""
    whole = tokens**2 / 2
    if window is None:
        return whole
    beyond = np.maximum(tokens - window, 0)
    return whole - beyond**2 / 2


def layer_flops(config: Any, tokens: Any) -> Any:
    """Returns the FLOPs of the language model's projections and MLPs.

    In a mixture of experts, a token passes through its own experts and the router.
    """
    text = config.get_text_config()
    queries, keys = text.num_attention_heads * _head_size(text), text.num_key_value_heads * _head_size(text)
    projections = 2.0 * text.hidden_size * (2 * queries + 2 * keys)
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    dense = 6.0 * text.hidden_size * text.intermediate_size
    if not experts:
        return text.num_hidden_layers * (projections + dense) * tokens
    width = getattr(text, "moe_intermediate_size", None) or text.intermediate_size
    mixed = 6.0 * text.hidden_size * width * text.num_experts_per_tok + 2.0 * text.hidden_size * experts
    every, apart = getattr(text, "decoder_sparse_step", 1), getattr(text, "mlp_only_layers", None) or ()
    plain = sum(layer in apart or (layer + 1) % every > 0 for layer in range(text.num_hidden_layers))
    per_token = text.num_hidden_layers * projections + (text.num_hidden_layers - plain) * mixed + plain * dense
    return per_token * tokens


def head_flops(config: Any, responses: Any) -> Any:
    """Returns the FLOPs of the lm_head over the response tokens."""
    return 2.0 * responses * config.get_text_config().hidden_size * config.get_text_config().vocab_size


def prompt_flops(config: Any, tiles: Any, prompt: Any) -> Any:
    """Returns the FLOPs of a prompt and its images, which the answers to it have in common.

    Args:
        config: config of the model.
        tiles: number of image tiles.
        prompt: prompt tokens, image tokens included.
    """
    return family_of(config).vision_flops(config, tiles) + layer_flops(config, prompt) + attention_flops(config, prompt)


def answer_flops(config: Any, prompt: Any, answer: Any) -> Any:
    """Returns the FLOPs of an answer behind its prompt.

    Args:
        config: config of the model.
        prompt: prompt tokens, image tokens included.
        answer: tokens of the answer.
    """
    return layer_flops(config, answer) + attention_flops(config, answer, prompt) + head_flops(config, answer)


def pair_flops(config: Any, tiles: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """Returns the FLOPs of all work of a pair that shares nothing with others."""
    answers = answer_flops(config, prompt, chosen) + answer_flops(config, prompt, rejected)
    return prompt_flops(config, tiles, prompt) + answers


def _head_size(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
