"""FSDP2 sharding applied from outside; the model's own code is unchanged.

Every layer of tower and decoder is a unit: its weights are gathered right before it computes and freed right after.
Only rank 0 reads the checkpoint. The other ranks build the model without memory and receive their shards. A machine
therefore holds one full copy while loading, however many devices it has.
"""

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from mpo_lightning.models.rows.pair_forward import PairForward


def shard(model: PairForward, mesh: DeviceMesh, device: torch.device, low: torch.dtype | None) -> None:
    """Shards a model in place and sends every rank its shards of rank 0's weights.

    Args:
        model: model with weights on rank 0, possibly on the meta device elsewhere. Adapters are added and parts frozen
            already.
        mesh: one dimension to shard over, or two to replicate over the first and shard over the second (hybrid).
        device: device of the shards.
        low: 16-bit dtype of gathered layers and hidden states; None is float32. Master weights, gradient reduction,
            embeddings and head stay in float32.
    """
    weights = model.state_dict()
    _move_to_meta(model)
    plain = MixedPrecisionPolicy()
    layers = plain if low is None else MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    for unit in model.family.shard_units(model.model):
        fully_shard(unit, mesh=mesh, mp_policy=layers)
    embeddings, head = model.model.get_input_embeddings(), model.model.get_output_embeddings()
    if head.weight is not embeddings.weight:
        # Tied weights must be in one unit, the root's.
        fully_shard(head, mesh=mesh, mp_policy=plain)
        fully_shard(embeddings, mesh=mesh, mp_policy=plain)
    # The root reshards after forward too, since a reference has no backward pass that would do it.
    fully_shard(model, mesh=mesh, mp_policy=plain, reshard_after_forward=True)
    _give_memory(model, device)
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    register_fsdp_forward_method(model, "generate")
    model.sharded = True


def _move_to_meta(model: nn.Module) -> None:
    """Moves parameters to the meta device; tied ones stay tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in moved:
                empty = torch.empty_like(parameter, device="meta")
                moved[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module.register_parameter(name, moved[id(parameter)])


def _give_memory(model: nn.Module, device: torch.device) -> None:
    """Allocates the parameters; buffers keep their values, which `to_empty` would lose."""
    buffers: list[tuple[nn.Module, str, Tensor]] = [
        (module, name, buffer) for module in model.modules() for name, buffer in module.named_buffers(recurse=False)
    ]
    model.to_empty(device=device)
    for module, name, buffer in buffers:
        setattr(module, name, buffer.to(device))
