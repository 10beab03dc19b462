"""A model cut in pieces over devices (FSDP2), from outside: the model's own code knows nothing of it.

Every layer of tower and decoder is a unit: its weights are gathered right before it computes and dropped right after.
Only rank 0 reads the checkpoint; the others build the model without memory and are sent their pieces, so a machine
holds one whole copy while loading, whatever its number of devices.
"""

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from mpo_lightning.models.pair_forward import PairForward


def shard(model: PairForward, mesh: DeviceMesh, device: torch.device, low: torch.dtype | None) -> None:
    """Shards a model in place and gives every rank its pieces of rank 0's weights.

    Args:
        model: with weights on rank 0; elsewhere they may be on the meta device. Adapters are in, parts are frozen.
        mesh: one dimension to shard over, or two to replicate over the first and shard over the second (hybrid).
        device: of the pieces.
        low: 16-bit dtype in which layers are gathered and in which states flow through them; None takes float32. Master
            weights, the reduction of gradients, embeddings and head stay in float32.
    """
    weights = model.state_dict()
    _move_to_meta(model)
    plain = MixedPrecisionPolicy()
    layers = plain if low is None else MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    for unit in model.family.shard_units(model.model):
        fully_shard(unit, mesh=mesh, mp_policy=layers)
    embeddings, head = model.model.get_input_embeddings(), model.model.get_output_embeddings()
    if head.weight is not embeddings.weight:
        # Tied weights must be of one unit, which is the root's.
        fully_shard(head, mesh=mesh, mp_policy=plain)
        fully_shard(embeddings, mesh=mesh, mp_policy=plain)
    # The root too drops what it gathered, since a reference has no backward pass that would do it.
    fully_shard(model, mesh=mesh, mp_policy=plain, reshard_after_forward=True)
    _give_memory(model, device)
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    register_fsdp_forward_method(model, "generate")
    model.sharded = True


def _move_to_meta(model: nn.Module) -> None:
    """Parameters only, tied ones staying tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in moved:
                empty = torch.empty_like(parameter, device="meta")
                moved[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            module.register_parameter(name, moved[id(parameter)])


def _give_memory(model: nn.Module, device: torch.device) -> None:
    """Parameters get memory; buffers keep their values, which `to_empty` would lose."""
    buffers: list[tuple[nn.Module, str, Tensor]] = [
        (module, name, buffer) for module in model.modules() for name, buffer in module.named_buffers(recurse=False)
    ]
    model.to_empty(device=device)
    for module, name, buffer in buffers:
        setattr(module, name, buffer.to(device))
