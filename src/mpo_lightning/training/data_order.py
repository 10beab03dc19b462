"""The order of a run's data: what its pairs cost, how a limit shortens it, and whether a resumed run keeps it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.plan import Plan
from mpo_lightning.models.flops import answer_flops, prompt_flops


@dataclass(frozen=True)
class FlopCosts:
    """The work of prompts and answers on a device, in FLOPs, by the counts of an index.

    Attributes:
        config: config of the model.
        tokens_per_tile: image tokens of a tile.
    """

    config: Any
    tokens_per_tile: int

    def prompt(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(prompt_flops(self.config, rows["tiles"].astype(np.float64), self._prompt_tokens(rows)))

    def answer(self, rows: np.ndarray, side: str) -> np.ndarray:
        tokens = rows[f"{side}_tokens"].astype(np.float64)
        return np.asarray(answer_flops(self.config, self._prompt_tokens(rows), tokens))

    def _prompt_tokens(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows["prompt_tokens"] + self.tokens_per_tile * rows["tiles"].astype(np.float64))


def limited(plan: Plan, limit: int | float) -> Plan:
    """Shortens a plan to `trainer.limit_train_batches` (a share, or micro-batches), rounded up to whole steps."""
    if isinstance(limit, float):
        return plan if limit == 1.0 else replace(plan, max_steps=math.ceil(limit * plan.steps))
    return replace(plan, max_steps=-(-limit // plan.micro_batches_per_step))


def describe_order(plan: Plan, encoder: PairEncoder) -> dict[str, Any]:
    """Returns the settings that decide which pairs a step has and how they are encoded; saved in checkpoints."""
    return {
        "records": plan.index.fingerprint,
        "global_batch_size": plan.global_batch_size,
        "pairs_per_question": plan.pairs_per_question,
        "seed": plan.seed,
        "steps_per_epoch": plan.steps,
        "max_tiles": encoder.max_tiles,
        "max_length": encoder.max_length,
        "overlong": encoder.overlong,
        "pixels": encoder.pixels,
        "template": encoder.template.name,
        "system_message": encoder.template.system_message,
        "trained_newline": encoder.template.trained_newline,
        "thinking": encoder.thinking,
    }


def order_difference(saved: dict[str, Any], now: dict[str, Any], train: object) -> str | None:
    """Returns a sentence about the first setting that differs from the checkpoint's; None if the order is the same.

    Args:
        saved: the checkpoint's `describe_order`; entries that an earlier version did not save are ignored, but
            its order was that of single pairs.
        now: `describe_order` of this run.
        train: this run's shards, for the message.
    """
    saved = {"pairs_per_question": 1} | saved
    for name, value in now.items():
        if name not in saved or saved[name] == value:
            continue
        if name == "records":
            return f"the checkpoint was made on other pairs than those of {train}; a resumed run must keep them"
        what = "steps in an epoch" if name == "steps_per_epoch" else f"data.{name}"
        before, after = ("none" if one == "" else one for one in (saved[name], value))
        return f"the checkpoint was made with {what} {before}, not {after}; a resumed run must keep it"
    return None
