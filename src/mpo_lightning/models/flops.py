"""Matrix-product FLOPs of a pair's distinct work: what no step can avoid, counted from the shapes.

A product [a, b] x [b, c] is 2abc. Attention is counted in score products that the causal pattern needs, twice (scores
and values). All are of one forward; a trained part costs three (one forward, two products backward), a reference pass
one. Nothing that is computed again counts.

Numbers of tokens may be arrays, one entry a pair.
"""

from typing import Any

from mpo_lightning.models.family import family_of


def attention_flops(config: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """Score and value products of the language model, the prompt once."""
    text = config.get_text_config()
    scores = (prompt + chosen) ** 2 / 2 + rejected * (prompt + rejected / 2)
    return 4.0 * scores * text.num_attention_heads * _head_size(text) * text.num_hidden_layers


def layer_flops(config: Any, tokens: Any) -> Any:
    """Projections and MLPs of the language model."""
    text = config.get_text_config()
    queries, keys = text.num_attention_heads * _head_size(text), text.num_key_value_heads * _head_size(text)
    per_token = 2.0 * text.hidden_size * (2 * queries + 2 * keys) + 6.0 * text.hidden_size * text.intermediate_size
    return text.num_hidden_layers * per_token * tokens


def head_flops(config: Any, responses: Any) -> Any:
    """The lm_head over response tokens."""
    return 2.0 * responses * config.get_text_config().hidden_size * config.get_text_config().vocab_size


def pair_flops(config: Any, tiles: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """All of a pair's work.

    Args:
        config: of the model.
        tiles: of its pictures.
        prompt: tokens in front of the answers, those of pictures counted.
        chosen: tokens of the chosen answer.
        rejected: tokens of the rejected answer.
    """
    return (
        family_of(config).vision_flops(config, tiles)
        + layer_flops(config, prompt + chosen + rejected)
        + attention_flops(config, prompt, chosen, rejected)
        + head_flops(config, chosen + rejected)
    )


def _head_size(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
