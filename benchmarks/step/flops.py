"""Matrix-product FLOPs of the distinct work of a step: what cannot be avoided, counted from the shapes.

A product [a, b] x [b, c] is 2abc. A trained part costs three forwards (one forward, two products backward), a reference pass one.
Attention is counted in score products that the causal pattern needs, twice (scores and values). Nothing that is computed again counts.
"""

from collections.abc import Sequence
from typing import Any


def vision_flops(config: Any, tiles: int) -> float:
    """One forward of tower and projector."""
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size[0] // vision.patch_size[0]) ** 2
    tokens, hidden = patches + 1, vision.hidden_size
    layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * vision.intermediate_size) + 4 * tokens**2 * hidden
    embed = 2 * patches * 3 * vision.patch_size[0] ** 2 * hidden
    wide = hidden * int(1 / config.downsample_ratio) ** 2
    projector = 2 * patches * config.downsample_ratio**2 * (wide * text.hidden_size + text.hidden_size**2)
    return tiles * (vision.num_hidden_layers * layer + embed + projector)


def attention_flops(config: Any, lengths: Sequence[tuple[int, int, int]]) -> float:
    """One forward of all score and value products of pairs of (prompt, chosen, rejected) tokens."""
    text = config.text_config
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    scores = sum((prompt + chosen) ** 2 / 2 + rejected * (prompt + rejected / 2) for prompt, chosen, rejected in lengths)
    return 4 * scores * text.num_attention_heads * head_size * text.num_hidden_layers


def language_flops(config: Any, lengths: Sequence[tuple[int, int, int]]) -> float:
    """One forward of the decoder layers, attention included, the prompt once a pair."""
    text = config.text_config
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = text.num_attention_heads * head_size, text.num_key_value_heads * head_size
    per_token = 2 * text.hidden_size * (2 * queries + 2 * keys) + 6 * text.hidden_size * text.intermediate_size
    return text.num_hidden_layers * per_token * sum(map(sum, lengths)) + attention_flops(config, lengths)


def head_flops(config: Any, tokens: int) -> float:
    """One forward of the lm_head over response tokens."""
    return 2.0 * tokens * config.text_config.hidden_size * config.text_config.vocab_size


def distinct_flops(config: Any, lengths: Sequence[tuple[int, int, int]], tiles: int, live_reference: bool) -> float:
    """A whole step, all parameters trained: three forwards of the policy and, without a cache, one of the reference."""
    responses = sum(chosen + rejected for _, chosen, rejected in lengths)
    forward = vision_flops(config, tiles) + language_flops(config, lengths) + head_flops(config, responses)
    return forward * (4 if live_reference else 3)
