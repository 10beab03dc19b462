"""Matrix-product FLOPs of the distinct work of a pair, computed from shapes: the minimum that any step needs.

A product [a, b] x [b, c] is 2abc. Attention counts only the score products that the causal pattern needs, twice (scores
and values). All functions count one forward pass. A trained part costs three (one forward, two products backward), a
reference pass one. Recomputation is not counted.

Token counts may be arrays with one entry per pair.
"""

from typing import Any

from mpo_lightning.models.family import family_of


def attention_flops(config: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """Returns the FLOPs of the language model's score and value products; the prompt counts once."""
    text = config.get_text_config()
    scores = (prompt + chosen) ** 2 / 2 + rejected * (prompt + rejected / 2)
    return 4.0 * scores * text.num_attention_heads * _head_size(text) * text.num_hidden_layers


def layer_flops(config: Any, tokens: Any) -> Any:
    """Returns the FLOPs of the language model's projections and MLPs."""
    text = config.get_text_config()
    queries, keys = text.num_attention_heads * _head_size(text), text.num_key_value_heads * _head_size(text)
    per_token = 2.0 * text.hidden_size * (2 * queries + 2 * keys) + 6.0 * text.hidden_size * text.intermediate_size
    return text.num_hidden_layers * per_token * tokens


def head_flops(config: Any, responses: Any) -> Any:
    """Returns the FLOPs of the lm_head over the response tokens."""
    return 2.0 * responses * config.get_text_config().hidden_size * config.get_text_config().vocab_size


def pair_flops(config: Any, tiles: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """Returns the FLOPs of all work of a pair.

    Args:
        config: config of the model.
        tiles: number of image tiles.
        prompt: prompt tokens, image tokens included.
        chosen: tokens of the chosen response.
        rejected: tokens of the rejected response.
    """
    return (
        family_of(config).vision_flops(config, tiles)
        + layer_flops(config, prompt + chosen + rejected)
        + attention_flops(config, prompt, chosen, rejected)
        + head_flops(config, chosen + rejected)
    )


def _head_size(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
