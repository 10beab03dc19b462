"""Alarms for problems of MPO runs whose loss, margin and accuracy look fine.

    chosen_falls    chosen responses become less likely than under the reference (or, without one,
                    than in the first steps), as with DPO alone, even while the margin grows
    length_drifts   sampled responses become twice or half as long as at the start, or no longer end
    repetition      a sampled response repeats itself and did not at the start (InternVL issue 1241)
    zero_weights    weights that were not zero are all zero (InternVL issue 1217)

The first three print a line, also in alarms.jsonl, and the run continues. The last one stops the run before such
weights are saved. Answers are decoded greedily for fixed validation pairs, at the start and in every validation, and
kept in samples.jsonl.
"""

import json
from collections import deque
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn

from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.words import repeated_share
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.models.generation import Answer, encode_prompt, generate, pad_prompts
from mpo_lightning.runs.agreement import gather, stop_together
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule


class Alarms(L.Callback):
    """Raises the alarms of this module during training.

    Args:
        samples: number of validation pairs whose responses are sampled; 0 samples none.
        max_new_tokens: most tokens of a sampled response.
        window: number of steps over which the chosen log-prob is averaged.
        chosen_drop: nats a token by which chosen responses may become less likely.
    """

    def __init__(self, samples: int = 4, max_new_tokens: int = 256, window: int = 50, chosen_drop: float = 0.1) -> None:
        if samples < 0 or max_new_tokens < 1 or window < 1 or not chosen_drop > 0:
            raise InputError(
                "Alarms needs samples of at least 0, max_new_tokens and window of at least 1 and a chosen_drop "
                f"above 0, got {samples}, "
                f"{max_new_tokens}, {window} and {chosen_drop}"
            )
        self.samples, self.max_new_tokens = samples, max_new_tokens
        self.chosen_drop = chosen_drop
        self.falls: deque[float] = deque(maxlen=window)
        self.first: list[float] = []
        self.at_start: dict[str, Any] | None = None
        self._zero_at_start: set[str] = set()
        self._prompts: list[tuple[str, Prompt]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"falls": list(self.falls), "first": self.first, "at_start": self.at_start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.falls.extend(state_dict["falls"])
        self.first = state_dict.get("first", [])
        self.at_start = state_dict["at_start"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._zero_at_start = _zero_parameters(pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._look_at_samples(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        logged = trainer.callback_metrics
        if not batch.last_of_step:
            return
        assert isinstance(pl_module, MPOModule)
        tokens = max(1.0, float(logged["train/tokens_chosen"]))
        if pl_module.objective.needs_reference:
            than = "under the reference"
            self.falls.append(-float(logged["train/rewards_chosen"]) / pl_module.objective.beta / tokens)
        else:
            than = "in the first ones"
            logp = float(logged["train/logps_chosen"]) / tokens
            if len(self.first) < (self.falls.maxlen or 0):
                self.first.append(logp)
                return
            self.falls.append(sum(self.first) / len(self.first) - logp)
        mean = sum(self.falls) / len(self.falls)
        if len(self.falls) == self.falls.maxlen and mean > self.chosen_drop:
            self._raise(
                trainer,
                "chosen_falls",
                f"over the last {len(self.falls)} steps chosen responses are {mean:.2f} nats a token less likely than "
                f"{than}; raise "
                "model.weights.generation, or lower the learning rate",
            )
            self.falls.clear()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._stop_at_zeros(trainer, pl_module)
        self._look_at_samples(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._stop_at_zeros(trainer, pl_module)

    def _stop_at_zeros(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        zero = _zero_parameters(pl_module) - self._zero_at_start
        problem = None
        if zero:
            problem = (
                f"the weights {min(zero)} (and {len(zero) - 1} more) turned to zeros by step {trainer.global_step}; "
                "resume from an earlier checkpoint with a lower learning rate"
            )
        stop_together(problem)

    def _look_at_samples(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        answers = self._sample(trainer, pl_module)
        if not answers or not trainer.is_global_zero:
            return
        processor = trainer.datamodule.processor  # type: ignore[attr-defined]
        tokens = [processor.tokenizer(answer.text, add_special_tokens=False)["input_ids"] for answer in answers]
        now: dict[str, Any] = {
            "tokens": sum(answer.tokens for answer in answers) / len(answers),
            "finished": sum(answer.finished for answer in answers) / len(answers),
            "repeated": dict(zip((key for key, _ in self._prompts), map(repeated_share, tokens), strict=True)),
        }
        with (_folder(trainer) / "samples.jsonl").open("a", encoding="utf-8") as file:
            for (key, prompt), answer in zip(self._prompts, answers, strict=True):
                row = {"step": trainer.global_step, "key": key, "question": prompt.question, "answer": answer.text}
                file.write(json.dumps(row | {"tokens": answer.tokens}, ensure_ascii=False) + "\n")
        if self.at_start is None:
            self.at_start = now
            return
        start = self.at_start
        if drift := length_drift(start, now):
            self._raise(
                trainer,
                "length_drifts",
                f"{drift}; compare them in samples.jsonl, and the lengths of chosen and rejected in the data",
            )
        if words := more_repetition(start["repeated"], now["repeated"]):
            self._raise(
                trainer,
                "repetition",
                f"{words}; look at samples.jsonl, and lower the learning rate or raise model.weights.generation",
            )

    def _sample(self, trainer: L.Trainer, pl_module: L.LightningModule) -> list[Answer]:
        datamodule = getattr(trainer, "datamodule", None)
        if not self.samples or not isinstance(datamodule, MMPRDataModule) or datamodule.folders["validation"] is None:
            return []
        assert isinstance(pl_module, MPOModule) and pl_module.policy is not None
        prompts = datamodule.sample_prompts(self.samples)
        # Sharded weights need every rank; with whole weights one rank is enough.
        if not pl_module.policy.sharded and not trainer.is_global_zero:
            return []
        encoded = []
        self._prompts = []
        for prompt in prompts:
            try:
                encoded.append(encode_prompt(datamodule.encoder, prompt))
                self._prompts.append((str(prompt.fields["id"]), prompt))
            except BadRecord:
                continue  # validation reports it
        if pl_module.policy.sharded and len({tuple(keys) for keys in gather([key for key, _ in self._prompts])}) > 1:
            return []  # one machine cannot read a shard, so ranks would do different work
        if not encoded:
            return []
        was_training = pl_module.training
        pl_module.eval()
        try:
            with trainer.precision_plugin.forward_context():
                batch = pad_prompts(encoded).to(pl_module.device)
                return generate(pl_module.policy, datamodule.processor, batch, self.max_new_tokens)
        finally:
            pl_module.train(was_training)

    def _raise(self, trainer: L.Trainer, kind: str, words: str) -> None:
        rank_zero_warn(f"alarm at step {trainer.global_step}: {words}")
        if trainer.is_global_zero:
            with (_folder(trainer) / "alarms.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": trainer.global_step, "alarm": kind, "words": words}) + "\n")


def more_repetition(start: dict[str, float] | float, now: dict[str, float]) -> str | None:
    """Describes the sampled responses that repeat themselves and did not before training; None if there are none.

    Args:
        start: share of repetition in each response before training, by its pair's key; one number for all in
            checkpoints of earlier versions.
        now: share of repetition in each response now.
    """
    before = start if isinstance(start, dict) else dict.fromkeys(now, start)
    bad = {key: share for key, share in now.items() if share > max(0.5, before.get(key, 0.0) + 0.2)}
    if not bad:
        return None
    key = max(bad, key=lambda name: bad[name])
    return (
        f"{bad[key]:.0%} of the sampled response to '{key}' is repetition ({before.get(key, 0.0):.0%} at the start), "
        f"and {len(bad) - 1} of the "
        f"{len(now) - 1} others are like it"
    )


def length_drift(start: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Describes a change in the length of sampled responses; None if it needs no alarm.

    Args:
        start: mean `tokens`, and the share of responses that end by themselves (`finished`), before training.
        now: the same numbers now.
    """
    if start["finished"] < 0.5:
        return None  # most responses were cut at the limit
    endless, before = 1 - now["finished"], 1 - start["finished"]
    if now["finished"] < start["finished"] / 2:
        return f"{endless:.0%} of the sampled responses no longer end ({before:.0%} at the start)"
    if not start["tokens"] / 2 <= now["tokens"] <= start["tokens"] * 2:
        return f"sampled responses have {now['tokens']:.0f} tokens and had {start['tokens']:.0f} at the start"
    return None


@torch.no_grad()
def _zero_parameters(module: L.LightningModule) -> set[str]:
    """Returns the names of parameters whose part on this rank is all zero."""
    assert isinstance(module, MPOModule) and module.policy is not None
    parts = {
        name: getattr(value, "to_local", lambda value=value: value)()
        for name, value in module.policy.named_parameters()
    }
    return {name for name, part in parts.items() if part.numel() and not part.any()}


def _folder(trainer: L.Trainer) -> Path:
    """Returns the run's folder by its logger, since trainer.log_dir is a broadcast."""
    logger = trainer.logger
    folder = Path((logger.log_dir if logger is not None else None) or trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
