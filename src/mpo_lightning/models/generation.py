"""Answers of a model to a batch of prompts, greedy or drawn, with a key-value cache.

Prompts are padded on the left, so that all of them end where their answers begin. Shape letters: B prompts, T tokens of the longest, N tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, InternVLForConditionalGeneration, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.tiling import normalize_tiles
from mpo_lightning.errors import BadRecord
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.models.pair_rope import PairRope, forget_lengths
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.sampling import Draws


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as the model takes them.

    Attributes:
        input_ids: int64 [B, T], padded on the left.
        attention_mask: int64 [B, T], 0 on padding.
        tiles: uint8 [N, 3, S, S] of all prompts, in the order of their image tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    tiles: Tensor

    def to(self, *args: Any, **kwargs: Any) -> "PromptBatch":
        """On a device."""
        tensors = ("input_ids", "attention_mask", "tiles")
        return replace(self, **{name: getattr(self, name).to(*args, **kwargs) for name in tensors})


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: without special tokens.
        tokens: how many it took, the end token counted.
        finished: whether it ended by itself; otherwise it was cut at the limit.
    """

    text: str
    tokens: int
    finished: bool


def encode_prompt(encoder: PairEncoder, prompt: Prompt) -> tuple[Tensor, Tensor]:
    """int64 [tokens] and uint8 [tiles, 3, S, S] of a prompt.

    Raises:
        BadRecord: a picture cannot be used, or the prompt fills `max_length`.
    """
    tiles = encoder.tiles(prompt.images, prompt.max_tiles)
    ids = encoder.prompt_ids(prompt.question, [len(part) for part in tiles])
    if len(ids) >= encoder.max_length:
        raise BadRecord(
            f"the prompt has {len(ids)} tokens and leaves no room in {encoder.max_length}; raise max_length or lower max_tiles"
        )
    side = encoder.tile_size
    return torch.tensor(ids), torch.cat(tiles) if tiles else torch.empty(0, 3, side, side, dtype=torch.uint8)


def pad_prompts(encoded: Sequence[tuple[Tensor, Tensor]]) -> PromptBatch:
    """Encoded prompts as one batch."""
    longest = max(len(ids) for ids, _ in encoded)
    rows, masks = zip(
        *((torch.cat([ids.new_zeros(longest - len(ids)), ids]), torch.arange(longest) >= longest - len(ids)) for ids, _ in encoded),
        strict=True,
    )
    return PromptBatch(torch.stack(rows), torch.stack(masks).long(), torch.cat([tiles for _, tiles in encoded]))


def split_by_rope(lengths: Sequence[int], limit: int | None, max_new_tokens: int) -> list[list[int]]:
    """Which prompts may share a batch: all that stay within the rope's limit; a longer one would stretch its neighbours and is alone.

    Args:
        lengths: tokens of each prompt.
        limit: see `rope_limit`.
        max_new_tokens: most tokens of an answer.
    """
    short = [number for number, length in enumerate(lengths) if limit is None or length + max_new_tokens <= limit]
    alone = [[number] for number in range(len(lengths)) if number not in set(short)]
    return ([short] if short else []) + alone


@torch.no_grad()
def generate(
    model: InternVLForConditionalGeneration | PairForward,
    processor: Processor,
    batch: PromptBatch,
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
    draws: Draws | None = None,
    rows: Sequence[int] | None = None,
) -> list[Answer]:
    """Answers, greedy unless they are drawn.

    Args:
        model: in eval mode; of a sharded one every rank must ask the same.
        processor: its own.
        batch: on the model's device.
        max_new_tokens: most tokens of an answer.
        streamer: told about tokens as they come; for a single prompt.
        draws: draws the tokens, a row an answer.
        rows: the prompt of each answer, where a prompt has several; None is one each. Not for a sharded model.
    """
    inner = model.model if isinstance(model, PairForward) else model
    rotary = inner.model.language_model.rotary_emb
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(processor.template.end)
    generating: Any = model
    forget_lengths(rotary.rotary if isinstance(rotary, PairRope) else rotary)
    if rows is None:
        ids, mask = batch.input_ids, batch.attention_mask
        begun: dict[str, Any] = {"pixel_values": normalize_tiles(batch.tiles).to(inner.dtype)} if len(batch.tiles) else {}
    else:
        index = torch.tensor(rows, device=batch.input_ids.device)
        ids, mask = batch.input_ids[index], batch.attention_mask[index]
        begun = {"past_key_values": _read_once(inner, batch, index)}
    made = generating.generate(
        input_ids=ids, attention_mask=mask, **begun, max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=end, pad_token_id=end,
        streamer=streamer, synced_gpus=isinstance(model, PairForward) and model.sharded, logits_processor=LogitsProcessorList([draws] if draws else []),
    )  # fmt: skip
    answers = []
    for row in made[:, ids.shape[1] :].tolist():
        finished = end in row
        tokens = row[: row.index(end)] if finished else row
        answers.append(Answer(str(tokenizer.decode(tokens, skip_special_tokens=True)), len(tokens) + finished, finished))
    return answers


def _read_once(model: Any, batch: PromptBatch, index: Tensor) -> DynamicCache:
    """Keys and values of each prompt but for its last token, computed once and repeated for its answers.

    Plain generation with several answers reads a prompt, pictures included, once for each of them.
    """
    cache = DynamicCache(config=model.config.text_config)
    places = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    pixels = {"pixel_values": normalize_tiles(batch.tiles).to(model.dtype)} if len(batch.tiles) else {}
    model(
        input_ids=batch.input_ids[:, :-1], attention_mask=batch.attention_mask[:, :-1], position_ids=places[:, :-1], **pixels, past_key_values=cache,
        use_cache=True, logits_to_keep=1,
    )  # fmt: skip
    cache.batch_select_indices(index)
    return cache
