"""Greedy or sampled responses of a model to a batch of prompts, with a key-value cache.

Prompts are padded on the left, so that all of them end where their responses begin. Shape letters: B prompts, T tokens
of the longest prompt, N tiles, S tile side in pixels.
"""

import copy
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
from mpo_lightning.models.family import family_of
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.models.rows.pair_rope import PairRope, forget_lengths


class EncodedPrompt(NamedTuple):
    """One prompt as model inputs.

    Attributes:
        ids: int64 [tokens].
        tiles: uint8 [tiles, 3, S, S].
        begun: number of tokens at the end that are the start of a response to be continued.
    """

    ids: Tensor
    tiles: Tensor
    begun: int = 0


@dataclass(frozen=True)
class PromptBatch:
    """A batch of prompts as model inputs.

    Attributes:
        input_ids: int64 [B, T], padded on the left.
        attention_mask: int64 [B, T], 0 on padding.
        tiles: uint8 [N, 3, S, S] of all prompts, in the order of their image tokens.
        begun: number of tokens of each prompt that start its response; see `EncodedPrompt`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    tiles: Tensor
    begun: tuple[int, ...]

    def to(self, *args: Any, **kwargs: Any) -> "PromptBatch":
        """Moves the tensors to a device; takes the arguments of `Tensor.to`."""
        tensors = ("input_ids", "attention_mask", "tiles")
        return replace(self, **{name: getattr(self, name).to(*args, **kwargs) for name in tensors})


@dataclass(frozen=True)
class Answer:
    """A model's response.

    Attributes:
        text: the response without special tokens.
        tokens: number of generated tokens, the end token included.
        finished: whether the model ended the response; otherwise it was cut off at the limit.
    """

    text: str
    tokens: int
    finished: bool


def encode_prompt(encoder: PairEncoder, prompt: Prompt) -> EncodedPrompt:
    """Returns a prompt's tokens and tiles.

    Raises:
        BadRecord: an image cannot be used, or the prompt fills `max_length`.
    """
    tiles = encoder.tiles(prompt.images, prompt.max_tiles)
    ids = encoder.prompt_ids(prompt.question, [len(part) for part in tiles], prompt.system)
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
    """Pads encoded prompts on the left into one batch."""
    longest = max(len(prompt.ids) for prompt in encoded)
    rows = [torch.cat([ids.new_zeros(longest - len(ids)), ids]) for ids, _, _ in encoded]
    masks = [torch.arange(longest) >= longest - len(ids) for ids, _, _ in encoded]
    tiles = torch.cat([prompt.tiles for prompt in encoded])
    return PromptBatch(torch.stack(rows), torch.stack(masks).long(), tiles, tuple(prompt.begun for prompt in encoded))


def split_by_rope(lengths: Sequence[int], limit: int | None, max_new_tokens: int) -> list[list[int]]:
    """Splits prompts into groups that may share a batch.

    Prompts within the rope's limit share one. A longer prompt would change the rope of the others, so it is alone.

    Args:
        lengths: tokens of each prompt.
        limit: see `rope_limit`.
        max_new_tokens: maximum number of tokens per response.

    Returns:
        The indices of the prompts in each group.
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
    """Generates responses, greedily unless `draws` samples them.

    Args:
        model: a family's model in eval mode, or its `PairForward`; if it is sharded, every rank makes the same call.
        processor: processor of the model.
        batch: prompts, on the model's device.
        max_new_tokens: maximum number of tokens per response.
        streamer: receives tokens as they are generated; for a single prompt.
        draws: samples the tokens, one row per response; None is greedy.
        rows: index of the prompt of each response, for several responses per prompt; None is one each. Not supported
            for a sharded model.
        read: result of `read_prompts`, used with `rows`; None computes it.

    Returns:
        One response per row.
    """
    inner = model.model if isinstance(model, PairForward) else model
    family = family_of(inner)
    rotary = family.language_model(inner).rotary_emb
    tokenizer = processor.tokenizer
    ends = [tokenizer.convert_tokens_to_ids(end) for end in processor.template.ends]
    forget_lengths(rotary.rotary if isinstance(rotary, PairRope) else rotary)
    if rows is None:
        ids, mask = batch.input_ids, batch.attention_mask
        begun: dict[str, Any] = family.generation_inputs(inner, batch.tiles)
    else:
        index = torch.tensor(rows, device=batch.input_ids.device)
        ids, mask = batch.input_ids[index], batch.attention_mask[index]
        begun = {"past_key_values": _repeated(read or read_prompts(model, batch), index)}
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        **begun,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=ends[0],
        streamer=streamer,
        synced_gpus=isinstance(model, PairForward) and model.sharded,
        logits_processor=LogitsProcessorList([draws] if draws else []),
    )
    prefix = tokenizer(processor.template.answer_prefix, add_special_tokens=False).input_ids
    answers = []
    for number, row in zip(range(len(ids)) if rows is None else rows, made[:, ids.shape[1] :].tolist(), strict=True):
        length = next((place for place, token in enumerate(row) if token in ends), len(row))
        finished, tokens = length < len(row), row[:length]
        before = batch.input_ids[number, batch.input_ids.shape[1] - batch.begun[number] :].tolist()
        text = decoded(tokenizer, before, _without(tokens, prefix))
        answers.append(Answer(text, len(tokens) + finished, finished))
    return answers


def _without(tokens: list[int], prefix: list[int]) -> list[int]:
    """Returns a response's tokens without what the template puts before every answer."""
    return tokens[len(prefix) :] if prefix and tokens[: len(prefix)] == prefix else tokens


def decoded(tokenizer: Any, before: list[int], tokens: list[int]) -> str:
    """Decodes new tokens together with those before them and returns the added text.

    This keeps the white space at the seam, which some tokenizers drop at the start of a text. Where tokens are single
    bytes and are no whole character, they change the text before them; the new tokens are decoded alone then.
    """
    told, whole = (str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in (before, before + tokens))
    alone = str(tokenizer.decode(tokens, skip_special_tokens=True))
    return whole.removeprefix(told) if whole.startswith(told) else alone


@torch.no_grad()
def read_prompts(model: Any, batch: PromptBatch) -> DynamicCache:
    """Computes the keys and values of each prompt except its last token, once for all of its responses.

    Plain generation with several responses encodes a prompt, images included, once for each of them.
    """
    if isinstance(model, PairForward):
        with model.plain_attention():
            return read_prompts(model.model, batch)
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


def _repeated(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """Returns a cache with the prompts' keys and values repeated by `index`; the given one is not changed.

    A layer with a sliding window goes on counting the tokens that it no longer holds.
    """
    repeated = copy.copy(cache)
    repeated.layers = [copy.copy(layer) for layer in cache.layers]
    repeated.batch_select_indices(index)
    return repeated
