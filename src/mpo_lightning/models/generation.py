"""Answers of a model to a batch of prompts, greedy or drawn, with a key-value cache.

Prompts are padded on the left, so that all of them end where their answers begin. Shape letters: B prompts, T tokens of
the longest, N tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import BadRecord
from mpo_lightning.models.draws import Draws
from mpo_lightning.models.family import Processor, family_of
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.models.pair_rope import PairRope, forget_lengths


class EncodedPrompt(NamedTuple):
    """One prompt as the model takes it.

    Attributes:
        ids: int64 [tokens].
        tiles: uint8 [tiles, 3, S, S].
        begun: how many of the tokens, at the end, belong to an answer that is to be gone on with.
    """

    ids: Tensor
    tiles: Tensor
    begun: int = 0


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as the model takes them.

    Attributes:
        input_ids: int64 [B, T], padded on the left.
        attention_mask: int64 [B, T], 0 on padding.
        tiles: uint8 [N, 3, S, S] of all prompts, in the order of their image tokens.
        begun: of each prompt, see `EncodedPrompt`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    tiles: Tensor
    begun: tuple[int, ...]

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


def encode_prompt(encoder: PairEncoder, prompt: Prompt) -> EncodedPrompt:
    """A prompt's tokens and tiles.

    Raises:
        BadRecord: a picture cannot be used, or the prompt fills `max_length`.
    """
    tiles = encoder.tiles(prompt.images, prompt.max_tiles)
    ids = encoder.prompt_ids(prompt.question, [len(part) for part in tiles])
    begun = encoder.begun_ids(prompt.begun) if prompt.begun else []
    if len(ids) + len(begun) >= encoder.max_length:
        raise BadRecord(
            f"the prompt has {len(ids) + len(begun)} tokens and leaves no room in {encoder.max_length}; raise "
            "max_length or lower max_tiles"
        )
    side = encoder.tile_size
    empty = torch.empty(0, 3, side, side, dtype=torch.uint8)
    return EncodedPrompt(torch.tensor(ids + begun), torch.cat(tiles) if tiles else empty, len(begun))


def pad_prompts(encoded: Sequence[EncodedPrompt]) -> PromptBatch:
    """Encoded prompts as one batch."""
    longest = max(len(prompt.ids) for prompt in encoded)
    rows = [torch.cat([ids.new_zeros(longest - len(ids)), ids]) for ids, _, _ in encoded]
    masks = [torch.arange(longest) >= longest - len(ids) for ids, _, _ in encoded]
    tiles = torch.cat([prompt.tiles for prompt in encoded])
    return PromptBatch(torch.stack(rows), torch.stack(masks).long(), tiles, tuple(prompt.begun for prompt in encoded))


def split_by_rope(lengths: Sequence[int], limit: int | None, max_new_tokens: int) -> list[list[int]]:
    """Which prompts may share a batch: all that stay within the rope's limit; a longer one would stretch its neighbours
    and is alone.

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
    model: Any,
    processor: Processor,
    batch: PromptBatch,
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
    draws: Draws | None = None,
    rows: Sequence[int] | None = None,
    read: DynamicCache | None = None,
) -> list[Answer]:
    """Answers, greedy unless they are drawn.

    Args:
        model: a family's model or a `PairForward` of it, in eval mode; of a sharded one every rank must ask the same.
        processor: its own.
        batch: on the model's device.
        max_new_tokens: most tokens of an answer.
        streamer: told about tokens as they come; for a single prompt.
        draws: draws the tokens, a row an answer.
        rows: the prompt of each answer, where a prompt has several; None is one each. Not for a sharded model.
        read: with rows, what `read_prompts` gave; None reads them now.
    """
    inner = model.model if isinstance(model, PairForward) else model
    family = family_of(inner)
    rotary = family.language_model(inner).rotary_emb
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(processor.template.end)
    forget_lengths(rotary.rotary if isinstance(rotary, PairRope) else rotary)
    if rows is None:
        ids, mask = batch.input_ids, batch.attention_mask
        begun: dict[str, Any] = family.generation_inputs(inner, batch.tiles)
    else:
        index = torch.tensor(rows, device=batch.input_ids.device)
        ids, mask = batch.input_ids[index], batch.attention_mask[index]
        begun = {"past_key_values": _repeated(inner, read or read_prompts(inner, batch), index)}
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        **begun,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        streamer=streamer,
        synced_gpus=isinstance(model, PairForward) and model.sharded,
        logits_processor=LogitsProcessorList([draws] if draws else []),
    )
    answers = []
    for number, row in zip(range(len(ids)) if rows is None else rows, made[:, ids.shape[1] :].tolist(), strict=True):
        finished = end in row
        tokens = row[: row.index(end)] if finished else row
        before = batch.input_ids[number, batch.input_ids.shape[1] - batch.begun[number] :].tolist()
        answers.append(Answer(_decoded(tokenizer, before, tokens), len(tokens) + finished, finished))
    return answers


def _decoded(tokenizer: Any, before: list[int], tokens: list[int]) -> str:
    """The text that tokens add to those before them, its white space at the seam included, which some tokenizers drop
    from a text of its own.
    """
    told, whole = (str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in (before, before + tokens))
    return whole.removeprefix(told)


@torch.no_grad()
def read_prompts(model: Any, batch: PromptBatch) -> DynamicCache:
    """Keys and values of each prompt but for its last token, computed once however many answers it gets.

    Plain generation with several answers reads a prompt, pictures included, once for each of them.
    """
    family = family_of(model)
    rotary = family.language_model(model).rotary_emb
    forget_lengths(rotary.rotary if isinstance(rotary, PairRope) else rotary)
    cache = DynamicCache(config=model.config.get_text_config())
    places = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    pixels = family.generation_inputs(model, batch.tiles)
    model(
        input_ids=batch.input_ids[:, :-1],
        attention_mask=batch.attention_mask[:, :-1],
        position_ids=places[:, :-1],
        **pixels,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache


def _repeated(model: Any, cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A cache of its own for the answers of some prompts."""
    repeated = DynamicCache(config=model.config.get_text_config())
    layers: Sequence[Any] = cache.layers
    for number, layer in enumerate(layers):
        repeated.update(layer.keys[index], layer.values[index], number)
    return repeated
