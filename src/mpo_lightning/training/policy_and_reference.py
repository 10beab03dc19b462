"""The two models of a run: the policy that is trained, and where its reference's log-probs come from.

The reference is a frozen copy beside the policy, the policy itself with its adapters off, or a cache that comes with
the batches. Only a reference that moves (TR-DPO) is part of a checkpoint; another one's folder has it already.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Part, family_of
from mpo_lightning.models.freeze import freeze as freeze_all
from mpo_lightning.models.freeze import freeze_parts, recompute_activations
from mpo_lightning.models.loading import empty_model, load_model
from mpo_lightning.models.lora import Lora, adapters_off, add_adapters
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.models.sharding import shard
from mpo_lightning.models.shared_prefix import Backend
from mpo_lightning.objectives import SequenceLogps
from mpo_lightning.runs.agreement import stop_together
from mpo_lightning.runs.fsdp2 import FSDP2Strategy

ReferenceSource = Literal["model", "cache", "adapter"]


class PolicyAndReference(L.LightningModule):
    """Loads the models and gives log-probs; `MPOModule` documents the arguments it passes on.

    Args:
        needs_reference: whether the objective compares with a reference.
        reference_moves: whether the reference follows the policy.

    Raises:
        InputError: arguments that contradict each other.
    """

    def __init__(
        self,
        policy: str,
        reference: str | None,
        reference_source: ReferenceSource,
        needs_reference: bool,
        reference_moves: bool,
        freeze: Sequence[Part],
        drop_path: float,
        lora: Lora | None,
        gradient_checkpointing: bool,
        attention: Backend,
        keep_logits_gib: float,
    ) -> None:
        super().__init__()
        self.policy_folder = policy
        self.reference_folder = reference or policy
        self.reference_source = reference_source
        self.needs_reference = needs_reference
        self.reference_moves = reference_moves
        self.frozen_parts: list[Part] = ["vision_tower", "projector"] if lora else list(freeze)
        self.drop_path = drop_path
        self.lora = lora
        self.gradient_checkpointing = gradient_checkpointing
        self.forward_options: dict[str, Any] = {"backend": attention, "keep_logits_bytes": int(keep_logits_gib * 2**30)}
        self.policy: PairForward | None = None
        self.reference: PairForward | None = None
        if not 0 <= keep_logits_gib < float("inf"):
            raise InputError(f"keep_logits_gib must be a number of at least 0, got {keep_logits_gib}")
        if reference_moves and (reference_source != "model" or lora):
            raise InputError(
                "TR-DPO moves its reference, which neither a cache nor adapters can follow; set "
                "model.reference_source to model"
            )
        if reference_source == "adapter" and (lora is None or reference not in (None, policy)):
            raise InputError(
                "reference_source adapter is the policy without its adapters: it needs model.lora and no other "
                "reference"
            )

    def setup(self, stage: str) -> None:
        """Raises InputError for a device without float64, and for a strategy that is not supported."""
        if self.trainer.strategy.root_device.type == "mps":
            raise InputError(
                "log-probs are summed in float64, which Apple's GPU does not have; add --trainer.accelerator cpu"
            )

        strategy = self.trainer.strategy
        if isinstance(strategy, DeepSpeedStrategy):
            self._check_deepspeed(strategy)
        elif not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy)):
            raise InputError(
                f"trainer.strategy {type(strategy).__name__} is not supported; use configs/strategy/single.yaml, "
                "ddp.yaml, or, where the "
                "models do not fit on each device, fsdp2.yaml"
            )

    def _check_deepspeed(self, strategy: DeepSpeedStrategy) -> None:
        """Whole weights on each device, and every pair of a step present: its gradients are out of our reach."""
        config = cast(dict[str, Any], strategy.config)
        if config.get("zero_optimization", {}).get("stage", 0) > 2:
            raise InputError(
                "DeepSpeed's stage 3 is not supported; take stage 2, or configs/strategy/fsdp2.yaml, which shards "
                "weights too"
            )
        quarantine = getattr(getattr(self.trainer, "datamodule", None), "quarantine", None)
        if quarantine is not None and not quarantine.strict:
            raise InputError(
                "data.on_bad_record quarantine does not work with DeepSpeed; set it to strict, or use "
                "configs/strategy/fsdp2.yaml"
            )

    def configure_model(self) -> None:
        """Loads both models, once, and shards them under FSDP2."""
        if self.policy is not None:
            return
        model = self._load(self.policy_folder)
        if self.lora:
            add_adapters(model, self.lora)
        else:
            freeze_parts(model, self.frozen_parts)
        family_of(model).add_drop_path(model, self.drop_path)
        if self.gradient_checkpointing:
            recompute_activations(model)
        self.policy = self._pair_forward(model)
        if self.needs_reference and self.reference_source == "model":
            self.reference = self._pair_forward(freeze_all(self._load(self.reference_folder)))
        self.train(self.training)

    @property
    def _sharded_strategy(self) -> FSDP2Strategy | None:
        strategy = self._trainer.strategy if self._trainer is not None else None
        return strategy if isinstance(strategy, FSDP2Strategy) else None

    def _load(self, folder: str) -> Any:
        """The model; under FSDP2 only rank 0 reads the weights."""
        if not self._sharded_strategy:
            return load_model(folder)
        problem = None
        try:
            model = load_model(folder) if self.trainer.is_global_zero else empty_model(folder)
        except InputError as error:
            problem = str(error)
        stop_together(problem)
        return model

    def _pair_forward(self, model: Any) -> PairForward:
        forward = PairForward(model, **self.forward_options)
        if strategy := self._sharded_strategy:
            low = torch.bfloat16 if str(self.trainer.precision) == "bf16-mixed" else None
            shard(forward, strategy.shard_mesh, strategy.root_device, low)
        return forward

    def train(self, mode: bool = True) -> "PolicyAndReference":
        """The policy's trained parts follow `mode`; its frozen parts and the reference stay in eval."""
        super().train(mode)
        if self.reference is not None:
            self.reference.eval()
        if self.policy is not None:
            for name in self.frozen_parts:
                for module in self.policy.family.parts(self.policy.model)[name]:
                    module.eval()
        return self

    def logps(self, batch: PairBatch) -> tuple[SequenceLogps, SequenceLogps | None]:
        """Log-probs of the batch's real pairs under the policy and, where the objective needs it, the reference."""
        assert self.policy is not None, "configure_model loads the models"
        real = batch.weights > 0
        policy, features = self.policy(batch)
        if not self.needs_reference:
            return policy.select(real), None
        return policy.select(real), self._reference_logps(
            batch, policy, features if self.shares_features else None
        ).select(real)

    @torch.no_grad()
    def _reference_logps(self, batch: PairBatch, policy: SequenceLogps, features: Tensor | None) -> SequenceLogps:
        assert self.policy is not None
        if self.reference is not None:
            return cast(SequenceLogps, self.reference(batch, features)[0])
        if self.reference_source == "adapter":
            with adapters_off(self.policy.model):
                return cast(SequenceLogps, self.policy(batch, features)[0])
        if batch.reference is None:
            raise InputError(
                "reference_source cache needs batches with cached log-probs; use MMPRDataModule with cached_reference"
            )
        return SequenceLogps(batch.reference[:, 0], batch.reference[:, 1], policy.chosen_tokens, policy.rejected_tokens)

    @property
    def shares_features(self) -> bool:
        """Whether policy and reference share their image features: same folder, frozen tower and projector."""
        same = Path(self.reference_folder).resolve() == Path(self.policy_folder).resolve()
        return same and not self.reference_moves and {"vision_tower", "projector"} <= set(self.frozen_parts)

    @torch.no_grad()
    def move_reference(self, alpha: float) -> None:
        """reference = alpha * policy + (1 - alpha) * reference."""
        assert self.policy is not None and self.reference is not None
        for ours, theirs in zip(self.policy.parameters(), self.reference.parameters(), strict=True):
            theirs.lerp_(ours.to(theirs.dtype), alpha)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The policy; the reference only where it moves, since otherwise its folder has it."""
        state = super().state_dict(*args, **kwargs)
        return {
            name: value for name, value in state.items() if self.reference_moves or not name.startswith("reference.")
        }

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Loads a checkpoint of `state_dict`; everything but an unmoving reference must be in it, and nothing else."""
        if not self.reference_moves and any(name.startswith("reference.") for name in state_dict):
            raise InputError("the checkpoint holds a reference that moved (TR-DPO); go on with that preference loss")
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [name for name in result.missing_keys if self.reference_moves or not name.startswith("reference.")]
        if strict and (missing or result.unexpected_keys):
            name = (missing + list(result.unexpected_keys))[0]
            raise InputError(
                f"the checkpoint does not fit this model: {name} is {'missing' if missing else 'unknown'}; was it "
                "made with another one?"
            )
        return result
