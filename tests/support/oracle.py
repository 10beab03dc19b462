"""The straightforward step, which the fast one has to equal: two full padded sequences a pair, as in the reference
code.

Pictures are encoded once for each answer, logits are built for every position, attention is transformers' own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.internvl.tiling import normalize_tiles
from mpo_lightning.objectives import SequenceLogps

IGNORE = -100


def oracle_logps(
    model: InternVLForConditionalGeneration,
    pairs: Sequence[EncodedPair],
    unattended: int | None = None,
    padded_to: int = 0,
) -> SequenceLogps:
    """Log-probs of both answers of each pair, summed in float64.

    Args:
        model: one that was not given to PairForward.
        pairs: padded together.
        unattended: a token id that gets no attention, as the reference's collator treats 0 (Qwen2's `!`).
        padded_to: least length of the padded sequences.
    """
    answers = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    prompts = [pair.prompt_ids for pair in pairs] * 2
    length = max(padded_to, *(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)))
    input_ids = torch.zeros(2 * len(pairs), length, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    labels = torch.full_like(input_ids, IGNORE)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        input_ids[row, :end] = torch.cat([prompt, answer])
        attention_mask[row, :end] = 1
        labels[row, len(prompt) : end] = answer
    if unattended is not None:
        attention_mask[input_ids == unattended] = 0
    tiles = normalize_tiles(torch.cat([pair.tiles for pair in pairs])).to(model.dtype)
    logits = model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        pixel_values=torch.cat([tiles, tiles]) if len(tiles) else None,
        use_cache=False,
    ).logits
    sums, tokens = answer_logps(logits, labels)
    (chosen, rejected), (chosen_tokens, rejected_tokens) = sums.chunk(2), tokens.chunk(2)
    return SequenceLogps(chosen, rejected, chosen_tokens, rejected_tokens)


def answer_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """float64 [rows] sums over each row's labelled tokens, and int64 [rows] counts; position t predicts token t + 1."""
    targets = labels[:, 1:]
    scored = targets != IGNORE
    rows = scored.nonzero()[:, 0]
    token_logps = torch.log_softmax(logits[:, :-1][scored], dim=-1).gather(1, targets[scored].unsqueeze(1)).squeeze(1)
    sums = torch.zeros(len(labels), dtype=torch.float64).index_add(0, rows, token_logps.double())
    return sums, scored.sum(dim=1)
