"""Estimates the memory that a training step needs on each device, without the device.

Weights, gradients and optimizer state follow from parameter counts. Activations are measured: the real forward pass
runs on fake tensors, which have shapes but no storage, and the tensors that autograd saves are added up. An 8B model
takes two seconds and no memory.

The total is the peak of a step with gradient accumulation, where gradients and activations exist at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mpo_lightning.data.batch import PairBatch, collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.family import Part, family_of
from mpo_lightning.models.freeze import freeze_parts, recompute_activations
from mpo_lightning.models.internals import FakeTensorMode, parameters_and_buffers, storage_key
from mpo_lightning.models.lora import Lora, add_adapters
from mpo_lightning.models.rows.answer_head import CHUNK_BYTES
from mpo_lightning.models.rows.pair_forward import PairForward

Strategy = Literal["single", "ddp", "fsdp2"]
Reference = Literal["model", "cache", "adapter"]
Precision = Literal["bf16-mixed", "32-true"]


@dataclass(frozen=True)
class Row:
    """The questions that a device computes at once, all of one shape.

    Attributes:
        questions: number of questions.
        tiles: image tiles of a question, thumbnails included.
        prompt: text tokens of the prompt.
        chosen: tokens of the chosen response.
        rejected: tokens of the rejected response.
        answers: different responses to a question, in turn of either length.
    """

    questions: int = 1
    tiles: int = 7
    prompt: int = 80
    chosen: int = 300
    rejected: int = 350
    answers: int = 2

    def batch(self, config: Any) -> PairBatch:
        """Returns the row as a batch with arbitrary tokens and pixels."""
        shape = family_of(config).picture_shape(config)
        side, tokens = shape.tile_size, shape.tokens_per_tile * self.tiles
        prompt = torch.cat([torch.full((tokens,), shape.token_id), torch.zeros(self.prompt, dtype=torch.int64)])
        tiles = torch.zeros(self.tiles, 3, side, side, dtype=torch.uint8)
        # Answers of other tokens, since equal ones would count once.
        answers = [torch.full((count,), n) for n, count in enumerate([self.chosen, self.rejected] * self.answers)]
        pairs = [EncodedPair("", prompt, answers[0], other, tiles) for other in answers[1 : self.answers]]
        groups = [question for question in range(self.questions) for _ in pairs]
        return collate(pairs * self.questions, side, groups=groups, shared_length=None)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device.

    Attributes:
        weights: weights of the policy, float32.
        reference: weights of a frozen reference model on the same device.
        gradients: gradients of the trained weights, float32.
        exchange: buffers for reducing gradients or gathering weights.
        optimizer: two AdamW moments per trained weight, float32.
        activations: tensors that the forward pass keeps for the backward pass.
        working: the largest short-lived buffer, such as a recomputed layer or a chunk of logits.
    """

    weights: float
    reference: float
    gradients: float
    exchange: float
    optimizer: float
    activations: float
    working: float

    @property
    def total(self) -> float:
        """The peak of a step, in bytes."""
        return float(sum(getattr(self, item.name) for item in fields(self)))


def plan_memory(
    config: Any,
    row: Row,
    reference: Reference = "model",
    freeze: Sequence[Part] = (),
    lora: Lora | None = None,
    gradient_checkpointing: bool = True,
    precision: Precision = "bf16-mixed",
    keep_logits_gib: float = 1.0,
    strategy: Strategy = "single",
    devices: int = 1,
) -> MemoryPlan:
    """Estimates the memory of a training step.

    Args:
        config: config of the model.
        row: the pairs that a device computes at once.
        reference: source of the reference's log-probs.
        freeze: parts that are not trained.
        lora: adapters that are trained instead of the weights.
        gradient_checkpointing: whether layers are recomputed in the backward pass.
        precision: arithmetic of the step.
        keep_logits_gib: largest logits of a row, in GiB, that are kept for the backward pass.
        strategy: a whole model on each device (single, ddp), or one sharded over all of them (fsdp2).
        devices: number of devices.
    """
    batch = row.batch(config)
    with torch.device("meta"):
        model = family_of(config).model_class(config)
        if lora:
            add_adapters(model, lora)
        else:
            freeze_parts(model, freeze)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        _on_a_device(model)
        weights, trained = (
            sum(4.0 * part.numel() for part in model.parameters() if part.requires_grad or not only)
            for only in (False, True)
        )
        unit = max(sum(4.0 * part.numel() for part in layer.parameters()) for layer in family_of(model).layers(model))
        fake = batch._map(mode.from_tensor)
        kept, layer = _kept(model, fake, precision)
        if gradient_checkpointing:
            recompute_activations(model)
            kept, _ = _kept(model, fake, precision)
    logits = 4.0 * len(batch.targets) * config.get_text_config().vocab_size
    whole = logits <= keep_logits_gib * 2**30
    plan = MemoryPlan(
        weights=weights,
        reference=weights if reference == "model" else 0.0,
        gradients=trained,
        exchange=0.0,
        optimizer=2 * trained,
        activations=kept + (logits if whole else 0.0),
        working=max(
            layer if gradient_checkpointing else 0.0,
            min(logits, float(CHUNK_BYTES)) * (1 if precision == "32-true" else 2),
        ),
    )
    if strategy == "ddp" and devices > 1:
        return replace(plan, exchange=trained)
    if strategy == "fsdp2":
        cut = {name: getattr(plan, name) / devices for name in ("weights", "reference", "gradients", "optimizer")}
        # One layer's gathered weights, the next layer's prefetched ones, and one layer's unsharded gradients.
        return replace(plan, **cut, exchange=3 * unit if devices > 1 else 0.0)
    return plan


def _on_a_device(model: nn.Module) -> None:
    """Replaces meta tensors by fake CPU tensors, because autocast does not support the meta device."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        parameters, buffers = parameters_and_buffers(module)
        for name, part in parameters.items():
            if part is not None:
                if id(part) not in made:
                    made[id(part)] = nn.Parameter(torch.empty(part.shape, dtype=part.dtype), part.requires_grad)
                parameters[name] = made[id(part)]
        for name, buffer in buffers.items():
            if buffer is not None:
                buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _kept(model: Any, batch: PairBatch, precision: Precision) -> tuple[float, float]:
    """Returns the bytes that autograd saves in a forward pass, and the most that one layer saves of them."""
    weights = {storage_key(part) for part in model.parameters()}
    # Holding the storages keeps their addresses unique.
    seen: dict[int, Any] = {}
    marks: list[float] = []

    def save(tensor: Tensor) -> Tensor:
        if (key := storage_key(tensor)) not in weights:
            seen[key] = tensor.untyped_storage()
        return tensor

    def total() -> float:
        return float(sum(storage.nbytes() for storage in seen.values()))

    hooks = [
        handle
        for layer in family_of(model).layers(model)
        for handle in (
            layer.register_forward_pre_hook(lambda *_: marks.append(total())),
            layer.register_forward_hook(lambda *_: marks.append(total())),
        )
    ]
    forward = PairForward(model.train(), "sdpa", keep_logits_bytes=0)
    with (
        saved_tensors_hooks(save, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"),
    ):
        forward(batch)
    for hook in hooks:
        hook.remove()
    return total(), max(after - before for before, after in zip(marks[::2], marks[1::2], strict=True))
