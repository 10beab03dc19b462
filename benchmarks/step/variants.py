"""A training step in several ways, from the reference code's to ours, each adding one idea to the one before.

oracle           two padded sequences a pair, logits of every position, live reference
response head    logits of response positions only, in chunks
vision once      a pair's images encoded once
shared prefix    the prompt computed once, one row a pair
packed           all pairs in one row, logits computed again in the backward pass
cached           reference log-probs read instead of computed
ours             logits kept where they fit, and pairs of one question share it and their answers (the product's
                 default with a cache)
ours, live       the same with a live reference
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from mpo_lightning.data.batch import PairBatch, collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.internvl.tiling import normalize_tiles
from mpo_lightning.models.rows.answer_head import token_logps
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective, SequenceLogps

VARIANTS = ("oracle", "response head", "vision once", "shared prefix", "packed", "cached", "ours", "ours, live")

Logps = Callable[[Sequence[EncodedPair]], SequenceLogps]


def two_sequences(model: Any, pairs: Sequence[EncodedPair], responses_only: bool, vision_once: bool) -> SequenceLogps:
    """Chosen and rejected as two padded sequences a pair."""
    device = model.lm_head.weight.device
    rows = [torch.cat([pair.prompt_ids, pair.chosen_ids]) for pair in pairs] + [
        torch.cat([pair.prompt_ids, pair.rejected_ids]) for pair in pairs
    ]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    prompts = torch.tensor([len(pair.prompt_ids) for pair in pairs] * 2, device=device)
    places = torch.arange(ids.shape[1], device=device)
    mask = (places < lengths.unsqueeze(1)).long()
    scored = (places[:-1] >= prompts.unsqueeze(1) - 1) & (places[:-1] < lengths.unsqueeze(1) - 1)
    tiles = torch.cat([pair.tiles for pair in pairs]).to(device)
    pixels = normalize_tiles(tiles).to(model.dtype)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if len(tiles) and vision_once:
        output = model.model.get_image_features(pixel_values=pixels, return_dict=True)
        output.pooler_output = torch.cat([output.pooler_output] * 2)
        inputs["mm_encoder_outputs"] = {"image": output}
    elif len(tiles):
        inputs["pixel_values"] = torch.cat([pixels, pixels])
    hidden = model.model(**inputs).last_hidden_state[:, :-1]
    if responses_only:
        logps = token_logps(hidden[scored], model.lm_head.weight, ids[:, 1:][scored])
    else:
        logits = model.lm_head(hidden)
        logps = (
            torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, -1)
            .gather(2, ids[:, 1:, None])
            .squeeze(2)[scored]
        )
    sums = torch.zeros(len(rows), dtype=torch.float64, device=device).index_add(
        0, scored.nonzero()[:, 0], logps.double()
    )
    (chosen, rejected), (chosen_tokens, rejected_tokens) = sums.chunk(2), scored.sum(1).chunk(2)
    return SequenceLogps(chosen, rejected, chosen_tokens, rejected_tokens)


def rows_logps(forward: PairForward, batches: Sequence[PairBatch]) -> SequenceLogps:
    parts = [forward(batch)[0] for batch in batches]
    return SequenceLogps(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("chosen", "rejected", "chosen_tokens", "rejected_tokens")
        )
    )


class Step:
    """One optimizer step on a few pairs.

    Args:
        variant: one of `VARIANTS`.
        load: makes a model; called once more for a live reference.
        lr: learning rate; every variant starts from the same weights.
    """

    def __init__(self, variant: str, load: Callable[[], Any], lr: float = 1e-5) -> None:
        self.variant = variant
        self.live = variant not in ("cached", "ours")
        models = [load().train(), *([load().requires_grad_(False).eval()] if self.live else [])]
        self.objective = MPOObjective(generation_mean="token")
        self.optimizer = torch.optim.AdamW(models[0].parameters(), lr=lr, fused=True)
        self.policy = models[0]
        self.functions = [self._logps(model) for model in models]
        self.cache: dict[tuple[str, ...], SequenceLogps] = {}

    def _logps(self, model: Any) -> Logps:
        if self.variant in ("oracle", "response head", "vision once"):
            responses, once = self.variant != "oracle", self.variant == "vision once"
            return lambda pairs: two_sequences(model, pairs, responses, once)
        forward = PairForward(model, keep_logits_bytes=2**30 if self.variant.startswith("ours") else 0)
        device = model.lm_head.weight.device
        if self.variant == "shared prefix":
            return lambda pairs: rows_logps(forward, [collate([pair], 448).to(device) for pair in pairs])
        shared = None if self.variant.startswith("ours") else 0
        return lambda pairs: forward(collate(pairs, 448, shared_length=shared).to(device))[0]

    def fill_cache(self, batches: Sequence[Sequence[EncodedPair]]) -> None:
        """Reference log-probs of what is to come, by the policy before its first step; not part of any time."""
        if not self.live:
            with torch.no_grad():
                self.cache = {tuple(pair.key for pair in pairs): self.functions[0](pairs).detach() for pairs in batches}

    def run(self, pairs: Sequence[EncodedPair]) -> float:
        """Forward, loss, backward, clipping, AdamW; returns the loss."""
        policy = self.functions[0](pairs)
        with torch.no_grad():
            reference = self.functions[1](pairs) if self.live else self.cache[tuple(pair.key for pair in pairs)]
        loss = self.objective(policy, reference, delta=0.0).total.mean()
        loss.backward()
        clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def timed(step: Step, batches: Sequence[Sequence[EncodedPair]], warmup: int) -> dict[str, Any]:
    """Process CPU and wall seconds of each step after the warm-up, and the loss of the first."""
    step.fill_cache(batches)
    cpu, wall, losses = [], [], []
    for pairs in batches:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        losses.append(step.run(pairs))
        cpu.append(time.process_time() - cpu_begin)
        wall.append(time.perf_counter() - begin)
    return {"cpu_s": cpu[warmup:], "wall_s": wall[warmup:], "loss": losses[0]}
