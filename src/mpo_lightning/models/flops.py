"""Matrix-product FLOPs of a pair's distinct work: what no step can avoid, counted from the shapes.

A product [a, b] x [b, c] is 2abc. Attention is counted in score products that the causal pattern needs, twice (scores and values). All are
of one forward; a trained part costs three (one forward, two products backward), a reference pass one. Nothing that is computed again counts.

Numbers of tokens may be arrays, one entry a pair.
"""

from typing import Any


def vision_flops(config: Any, tiles: Any) -> Any:
    """Tower and projector."""
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size[0] // vision.patch_size[0]) ** 2
    tokens, hidden = patches + 1, vision.hidden_size
    layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * vision.intermediate_size) + 4 * tokens**2 * hidden
    embed = 2 * patches * 3 * vision.patch_size[0] ** 2 * hidden
    wide = hidden * int(1 / config.downsample_ratio) ** 2
    projector = 2 * patches * config.downsample_ratio**2 * (wide * text.hidden_size + text.hidden_size**2)
    return tiles * (vision.num_hidden_layers * layer + embed + projector)


def attention_flops(config: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """Score and value products of the language model, the prompt once."""
    text = config.text_config
    scores = (prompt + chosen) ** 2 / 2 + rejected * (prompt + rejected / 2)
    return 4.0 * scores * text.num_attention_heads * _head_size(text) * text.num_hidden_layers


def layer_flops(config: Any, tokens: Any) -> Any:
    """Projections and MLPs of the language model."""
    text = config.text_config
    queries, keys = text.num_attention_heads * _head_size(text), text.num_key_value_heads * _head_size(text)
    per_token = 2.0 * text.hidden_size * (2 * queries + 2 * keys) + 6.0 * text.hidden_size * text.intermediate_size
    return text.num_hidden_layers * per_token * tokens


def head_flops(config: Any, responses: Any) -> Any:
    """The lm_head over response tokens."""
    return 2.0 * responses * config.text_config.hidden_size * config.text_config.vocab_size


def pair_flops(config: Any, tiles: Any, prompt: Any, chosen: Any, rejected: Any) -> Any:
    """All of a pair's work.

    Args:
        config: a transformers `InternVLConfig`.
        tiles: of its pictures.
        prompt: tokens in front of the answers, those of pictures counted.
        chosen: tokens of the chosen answer.
        rejected: tokens of the rejected answer.
    """
    return (
        vision_flops(config, tiles)
        + layer_flops(config, prompt + chosen + rejected)
        + attention_flops(config, prompt, chosen, rejected)
        + head_flops(config, chosen + rejected)
    )


def _head_size(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
