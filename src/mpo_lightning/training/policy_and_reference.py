"""The two models of a run: the policy that is trained, and the source of the reference's log-probs.

The reference is a frozen copy beside the policy, the policy with its adapters off, or a cache that comes with the
batches. A checkpoint holds the reference only if it moves (TR-DPO).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Part, family_of
from mpo_lightning.models.freeze import freeze as freeze_all
from mpo_lightning.models.freeze import freeze_parts, recompute_activations
from mpo_lightning.models.internals import adapters_off
from mpo_lightning.models.loading import empty_model, load_model
from mpo_lightning.models.lora import Lora, add_adapters
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.models.rows.prefix_layout import Backend
from mpo_lightning.models.sharding import shard
from mpo_lightning.objectives import SequenceLogps
from mpo_lightning.runs.agreement import stop_together
from mpo_lightning.runs.fsdp2 import FSDP2Strategy

ReferenceSource = Literal["model", "cache", "adapter"]


@dataclass(frozen=True)
class ModelOptions:
    """How the two models are loaded and run; `MPOModule` documents each option.

    Raises:
        InputError: an option is out of range, or options contradict each other.
    """

    policy: str
    reference: str | None = None
    reference_source: ReferenceSource = "model"
    freeze: Sequence[Part] = ()
    drop_path: float = 0.0
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    attention: Backend = "auto"
    keep_logits_gib: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.keep_logits_gib < float("inf"):
            raise InputError(f"keep_logits_gib must be a number of at least 0, got {self.keep_logits_gib}")
        if self.reference_source == "adapter" and (self.lora is None or self.reference not in (None, self.policy)):
            raise InputError(
                "reference_source adapter takes the policy without its adapters: it needs model.lora and no other "
                "reference"
            )

    @property
    def reference_folder(self) -> str:
        """The reference's checkpoint folder; the policy's own unless another is named."""
        return self.reference or self.policy

    @property
    def frozen_parts(self) -> list[Part]:
        """Parts that are not trained; adapters are only on the language model."""
        return ["vision_tower", "projector"] if self.lora else list(self.freeze)


class PolicyAndReference:
    """Loads the two models and computes log-probs. `MPOModule` registers `policy` and `reference` as submodules.

    Args:
        options: how the models are loaded and run.
        needs_reference: whether the objective compares with a reference.
        reference_moves: whether the preference loss moves the reference during training.

    Attributes:
        policy: the trained model; None before `load`.
        reference: the frozen copy; None before `load`, and if log-probs come from elsewhere.

    Raises:
        InputError: the reference has to move, but is not a copy of its own.
    """

    def __init__(self, options: ModelOptions, needs_reference: bool, reference_moves: bool) -> None:
        self.options = options
        self.needs_reference = needs_reference
        self.reference_moves = reference_moves
        self.policy: PairForward | None = None
        self.reference: PairForward | None = None
        if reference_moves and (options.reference_source != "model" or options.lora):
            raise InputError(
                "TR-DPO moves its reference, which a cache and adapters cannot; set model.reference_source to model"
            )

    def load(self, trainer: L.Trainer | None) -> None:
        """Loads both models, and shards them under FSDP2."""
        options = self.options
        model = _load(options.policy, trainer)
        if options.lora:
            add_adapters(model, options.lora)
        else:
            freeze_parts(model, options.frozen_parts)
        family_of(model).add_drop_path(model, options.drop_path)
        if options.gradient_checkpointing:
            recompute_activations(model)
        self.policy = self._pair_forward(model, trainer)
        if self.needs_reference and options.reference_source == "model":
            self.reference = self._pair_forward(freeze_all(_load(options.reference_folder, trainer)), trainer)

    def _pair_forward(self, model: Any, trainer: L.Trainer | None) -> PairForward:
        forward = PairForward(model, self.options.attention, int(self.options.keep_logits_gib * 2**30))
        if trainer is not None and (strategy := _sharded_strategy(trainer)):
            low = torch.bfloat16 if str(trainer.precision) == "bf16-mixed" else None
            shard(forward, strategy.shard_mesh, strategy.root_device, low)
        return forward

    def keep_frozen_in_eval(self) -> None:
        """Puts the reference and the policy's frozen parts into eval mode."""
        if self.reference is not None:
            self.reference.eval()
        if self.policy is not None:
            parts = self.policy.family.parts(self.policy.model)
            for module in (module for name in self.options.frozen_parts for module in parts[name]):
                module.eval()

    def logps(self, batch: PairBatch) -> tuple[SequenceLogps, SequenceLogps | None]:
        """Returns log-probs of the batch's real pairs under the policy and, if needed, the reference."""
        assert self.policy is not None, "load comes first"
        real = batch.weights > 0
        policy, features = self.policy(batch)
        if not self.needs_reference:
            return policy.select(real), None
        reference = self._reference_logps(batch, policy, features if self.shares_features else None)
        return policy.select(real), reference.select(real)

    @torch.no_grad()
    def _reference_logps(self, batch: PairBatch, policy: SequenceLogps, features: Tensor | None) -> SequenceLogps:
        assert self.policy is not None
        if self.reference is not None:
            return cast(SequenceLogps, self.reference(batch, features)[0])
        if self.options.reference_source == "adapter":
            with adapters_off(self.policy.model):
                return cast(SequenceLogps, self.policy(batch, features)[0])
        if batch.reference is None:
            raise InputError(
                "reference_source cache needs batches with cached log-probs; use MMPRDataModule with cached_reference"
            )
        return SequenceLogps(batch.reference[:, 0], batch.reference[:, 1], policy.chosen_tokens, policy.rejected_tokens)

    @property
    def shares_features(self) -> bool:
        """Whether policy and reference share image features: same folder, frozen tower and projector."""
        same = Path(self.options.reference_folder).resolve() == Path(self.options.policy).resolve()
        return same and not self.reference_moves and {"vision_tower", "projector"} <= set(self.options.frozen_parts)

    @torch.no_grad()
    def move_reference(self, alpha: float) -> None:
        """Sets reference = alpha * policy + (1 - alpha) * reference."""
        assert self.policy is not None and self.reference is not None
        for ours, theirs in zip(self.policy.parameters(), self.reference.parameters(), strict=True):
            theirs.lerp_(ours.to(theirs.dtype), alpha)

    def is_saved(self, name: str) -> bool:
        """Whether a checkpoint holds the state of a name; the reference's only if it moves."""
        return self.reference_moves or not name.startswith("reference.")

    def check_saved(self, names: Iterable[str]) -> None:
        """Raises InputError if the checkpoint has a moved reference and this run's reference does not move."""
        if not all(map(self.is_saved, names)):
            raise InputError("the checkpoint holds a reference that moved (TR-DPO); resume with that preference loss")

    def expect_saved_alone(self, module: nn.Module, keys: Any) -> None:
        """Drops what a checkpoint leaves out from the missing keys; torch calls it after loading.

        It counts where the module is loaded as a part of another, such as torch's AveragedModel.
        """
        keys.missing_keys[:] = [name for name in keys.missing_keys if self.is_saved(name.removeprefix("module."))]

    @staticmethod
    def check_shapes(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Raises InputError for a checkpoint's weight of another shape than the model's."""
        for name, value in saved.items():
            if name in own and isinstance(value, Tensor) and value.shape != own[name].shape:
                raise InputError(
                    f"the checkpoint does not fit this model: {name} has the shape {list(value.shape)}, not "
                    f"{list(own[name].shape)}; was it made with another vocabulary or lora.rank?"
                )

    def check_loaded(self, missing: Sequence[str], unexpected: Sequence[str]) -> None:
        """Raises InputError if a checkpoint lacks a state or holds an unknown one."""
        missing = list(filter(self.is_saved, missing))
        if missing or unexpected:
            raise InputError(
                f"the checkpoint does not fit this model: {[*missing, *unexpected][0]} is "
                f"{'missing' if missing else 'unknown'}; was it made with another one?"
            )


def _sharded_strategy(trainer: L.Trainer) -> FSDP2Strategy | None:
    return trainer.strategy if isinstance(trainer.strategy, FSDP2Strategy) else None


def _load(folder: str, trainer: L.Trainer | None) -> Any:
    """Loads the model; under FSDP2 only rank 0 reads the weights."""
    if trainer is None or not _sharded_strategy(trainer):
        return load_model(folder)
    problem = None
    try:
        model = load_model(folder) if trainer.is_global_zero else empty_model(folder)
    except InputError as error:
        problem = str(error)
    stop_together(problem)
    return model


def check_strategy(trainer: L.Trainer) -> None:
    """Raises InputError for a device without float64 and for an unsupported strategy."""
    strategy = trainer.strategy
    if strategy.root_device.type == "mps":
        raise InputError(
            "log-probs are summed in float64, which Apple's GPU does not have; add --trainer.accelerator cpu"
        )
    if isinstance(strategy, DeepSpeedStrategy):
        _check_deepspeed(trainer, strategy)
    elif not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy)):
        raise InputError(
            f"trainer.strategy {type(strategy).__name__} is not supported; use configs/strategy/single.yaml, "
            "ddp.yaml, or, if the models do not fit on each device, fsdp2.yaml"
        )


def _check_deepspeed(trainer: L.Trainer, strategy: DeepSpeedStrategy) -> None:
    """Raises InputError for sharded weights and for skipped records, since DeepSpeed keeps the gradients to itself."""
    config = cast(dict[str, Any], strategy.config)
    if config.get("zero_optimization", {}).get("stage", 0) > 2:
        raise InputError(
            "DeepSpeed's stage 3 is not supported; use stage 2, or configs/strategy/fsdp2.yaml, which shards weights "
            "too"
        )
    quarantine = getattr(getattr(trainer, "datamodule", None), "quarantine", None)
    if quarantine is not None and not quarantine.strict:
        raise InputError(
            "data.on_bad_record quarantine does not work with DeepSpeed; set it to strict, or use "
            "configs/strategy/fsdp2.yaml"
        )
