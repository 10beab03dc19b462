"""The LightningModule: a policy, its frozen reference, and one MPO step.

It composes; the arithmetic is in `objectives` and the forward pass in `models`. A global step is a set of pairs, each
weighing 1/size of the step, however the step is cut into ranks and micro-batches.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor
from torch.optim import AdamW

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Part
from mpo_lightning.models.lora import Lora
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.models.rows.prefix_layout import Backend
from mpo_lightning.objectives import (
    LossTerms,
    MPOObjective,
    PreferenceLoss,
    PreviousSteps,
    RewardShift,
    RunningMicroBatches,
    SequenceLogps,
    TermWeights,
)
from mpo_lightning.objectives.generation import GenerationMean
from mpo_lightning.runs.lightning_internals import attached_trainer
from mpo_lightning.runs.resume import Resume
from mpo_lightning.training.loss_limit import LossLimit
from mpo_lightning.training.optimizer import make_optimizer, total_steps, warmup_cosine
from mpo_lightning.training.policy_and_reference import (
    ModelOptions,
    PolicyAndReference,
    ReferenceSource,
    check_strategy,
)
from mpo_lightning.training.quarantine import stop_at_bad_records
from mpo_lightning.training.run_description import run_identity
from mpo_lightning.training.step import Step
from mpo_lightning.training.step_metrics import StepMeter, mean_names, pair_rows, step_means, step_sums

SHIFTS: dict[str, type[RewardShift]] = {"previous_steps": PreviousSteps, "micro_batches": RunningMicroBatches}


class MPOModule(L.LightningModule):
    """Trains an InternVL2 policy with MPO against a frozen reference.

    Args:
        policy: checkpoint folder in the transformers layout.
        reference: checkpoint folder of the reference; None takes the policy's, as in the paper.
        reference_source: source of the reference's log-probs. "model" is a frozen copy beside the policy; "cache" reads
            what `mpo data reference` wrote, so that no second model is loaded; "adapter" is the policy with its
            adapters off (needs `lora`).
        preference: the preference loss; None is DPO.
        weights: weights of the preference, quality and generation terms. 0/0/1 is SFT and loads no reference.
        beta: strength of the pull towards the reference.
        reward_shift: delta of the quality term. "previous_steps" is the paper's mean over the rewards of earlier steps;
            "micro_batches" is the reference code's: one value for each rank, updated by a micro-batch before its use.
        generation_mean: "sequence" is the paper's mean over each answer's tokens; "token" is the reference code's mean
            over the micro-batch's tokens.
        freeze: parts that are not trained: vision_tower, projector, language_model.
        drop_path: rate of stochastic depth in the vision tower's last layer (0 in its first).
        lora: train low-rank adapters on the language model instead of its weights; null trains the weights.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        attention: attention backend of the language model: flash-attn, varlen (torch's own), sdpa, or auto.
        keep_logits_gib: largest logits of a row's responses, in GiB, that are kept for the backward pass; larger ones
            are recomputed.
        optimizer: makes the optimizer from parameter groups.
        warmup_ratio: share of all steps in which the learning rate rises linearly; a cosine to 0 follows.
        loss_limit: how far above its median the loss may be, and for how many steps, before the run stops.
    """

    def __init__(
        self,
        policy: str,
        reference: str | None = None,
        reference_source: ReferenceSource = "model",
        preference: PreferenceLoss | None = None,
        weights: TermWeights = TermWeights(),  # noqa: B008 (frozen)
        beta: float = 0.1,
        reward_shift: Literal["previous_steps", "micro_batches"] = "previous_steps",
        generation_mean: GenerationMean = "sequence",
        freeze: Sequence[Part] = (),
        drop_path: float = 0.0,
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        attention: Backend = "auto",
        keep_logits_gib: float = 1.0,
        optimizer: OptimizerCallable = lambda groups: AdamW(groups, lr=5e-6, weight_decay=0.05),
        warmup_ratio: float = 0.05,
        loss_limit: LossLimit = LossLimit(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        options = ModelOptions(
            policy=policy,
            reference=reference,
            reference_source=reference_source,
            freeze=freeze,
            drop_path=drop_path,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            attention=attention,
            keep_logits_gib=keep_logits_gib,
        )
        self.objective = objective = MPOObjective(preference, weights, beta, generation_mean)
        moves = objective.preference.moves_reference and weights.preference > 0
        self.models = PolicyAndReference(options, objective.needs_reference, moves)
        self.policy: PairForward | None = None
        self.reference: PairForward | None = None
        self.shift = SHIFTS[reward_shift]()
        self._resume = Resume(run_identity(objective, reward_shift, options, optimizer))
        self.make_optimizer = optimizer
        self.warmup_ratio = warmup_ratio
        if not 0 <= warmup_ratio <= 1:
            raise InputError(f"warmup_ratio must be between 0 and 1, got {warmup_ratio}")
        self._step = Step(objective, self.shift, loss_limit)
        self._evaluated = StepMeter()
        self.register_load_state_dict_post_hook(self.models.expect_saved_alone)

    def __deepcopy__(self, memo: dict[int, Any]) -> "MPOModule":
        """Copies the policy alone, for callbacks that average weights; the copy shares everything else."""
        copied: MPOModule = type(self).__new__(type(self))
        copied.__dict__ = self.__dict__ | {
            "_modules": self._modules | {"policy": copy.deepcopy(self._modules.get("policy"), memo)}
        }
        return copied

    # -- models

    def setup(self, stage: str) -> None:
        """Raises InputError for a device without float64 and for an unsupported strategy."""
        check_strategy(self.trainer)

    def configure_model(self) -> None:
        """Loads both models, once."""
        if self.policy is None:
            self.models.load(attached_trainer(self))
            self.policy, self.reference = self.models.policy, self.models.reference
            self.train(self.training)

    def train(self, mode: bool = True) -> "MPOModule":
        """Sets the mode of the policy's trained parts; its frozen parts and the reference stay in eval."""
        super().train(mode)
        self.models.keep_frozen_in_eval()
        return self

    def on_train_start(self) -> None:
        self.train()
        self._step.restart()
        self._resume.begin(self)

    def on_train_batch_start(self, batch: PairBatch, batch_idx: int) -> None:
        """Seeds the adapters' dropout by the place in the run, so that a resumed run draws the same numbers.

        Drop path has its own seed for each pair.
        """
        self._step.begin()
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        place = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(((seed * 1_000_003 + place) * 65_537 + self.global_rank) % 2**63)

    # -- steps

    def losses(self, batch: PairBatch, training: bool) -> tuple[LossTerms, SequenceLogps]:
        """Computes the loss terms of the batch's real pairs, and their log-probs under the policy."""
        policy, reference = self.models.logps(batch)
        delta = 0.0
        if reference is not None:
            rewards = self.objective.rewards(policy, reference)
            delta = self.shift.before_loss(rewards, self._reduce_sum, training)
        return self.objective(policy, reference, delta), policy

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Returns the micro-batch's share of the step's loss, its sum over pairs, scaled.

        Lightning divides by the accumulated micro-batches and averages over ranks; the mean is then over pairs.
        """
        terms, policy = self.losses(batch, training=True)
        self._step.add(batch, terms, policy)
        if batch.last_of_step:
            shown, others = self._step.finish(self.trainer, batch.step_pairs, self._reduce_sum)
            self.log_dict({f"train/{name}": value for name, value in shown.items()}, prog_bar=True)
            self.log_dict({f"train/{name}": value for name, value in others.items()})
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return terms.total.sum() * (parts / batch.step_pairs)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Makes the gradient the mean over the pairs that were not skipped."""
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            self._step.guard.clear()  # DeepSpeed holds and clips the gradients itself
        else:
            self.log("train/gradient_norm", self._step.prepare_gradients(self.trainer, self.parameters()))

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def test_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Any]:
        """Evaluates a micro-batch and returns its `pair_rows` as "rows"."""
        terms, policy = self._evaluation_step(batch)
        return {"rows": pair_rows(batch, terms, policy)}

    def _evaluation_step(self, batch: PairBatch) -> tuple[LossTerms, SequenceLogps]:
        terms, policy = self.losses(batch, training=False)
        self._evaluated.add(step_sums(terms, policy, batch))
        return terms, policy

    def on_validation_start(self) -> None:
        self._step.meter.pause()
        self._evaluated.restart()

    def on_validation_end(self) -> None:
        self._step.meter.go_on()

    def on_test_start(self) -> None:
        self._evaluated.restart()

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")
        # Set before callbacks write checkpoints.
        self._resume.validated_step = self.global_step

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _log_evaluation(self, stage: str) -> None:
        if self._evaluated.empty:
            return
        sums, counts = self._evaluated.finish(self._reduce_sum)
        means = step_means(sums, mean_names(self.objective)) | {name: counts[name] for name in ("pairs", "set_aside")}
        if means["set_aside"]:
            stop_at_bad_records(self.trainer)
        if self.objective.needs_reference:
            means["delta"] = self.shift.mean
        # Reduced over ranks already; a mean of ranks' means would overweight ranks with fewer pairs.
        logged = {f"{stage}/{name}": value for name, value in means.items()}
        self.log_dict(logged, rank_zero_only=False, sync_dist=False)

    def _reduce_sum(self, values: Tensor) -> Tensor:
        return cast(Tensor, self.trainer.strategy.reduce(values, reduce_op="sum"))

    # -- optimizer and state

    def configure_optimizers(self) -> Any:
        """Makes the optimizer over the trained parameters, and a schedule of warm-up and a cosine to 0.

        Raises:
            InputError: weights below float32, an option that the optimizer refuses, or a run of unknown length.
        """
        assert self.policy is not None
        optimizer = make_optimizer(self.policy.model, self.make_optimizer, str(self.trainer.precision))
        schedule = warmup_cosine(optimizer, total_steps(self.trainer), self.warmup_ratio)
        self._resume.rates = [group["initial_lr"] for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.models.reference_moves:
            self.objective.preference.after_step(self.global_step + 1, self.models.move_reference)

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Returns the policy's state; the reference's only if it moves, since otherwise its folder has it."""
        state: dict[str, Any] = super().state_dict(*args, prefix=prefix, **kwargs)
        for name in [name for name in state if name.startswith(prefix)]:
            if not self.models.is_saved(name.removeprefix(prefix)):
                del state[name]
        return state

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads a state that `state_dict` returned; a missing, unknown or misshapen entry raises InputError."""
        self.models.check_saved(state_dict)
        self.models.check_shapes(state_dict, super().state_dict())
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        if strict:
            self.models.check_loaded(result.missing_keys, result.unexpected_keys)
        return result

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= self._step.state_dict()
        # For `mpo model export`.
        lora = self.models.options.lora
        checkpoint["policy"] = {"folder": self.models.options.policy, "lora": asdict(lora) if lora else None}
        self._resume.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if (trainer := attached_trainer(self)) is not None:
            self._resume.load(trainer, checkpoint)
        self._step.load_state_dict(checkpoint)
