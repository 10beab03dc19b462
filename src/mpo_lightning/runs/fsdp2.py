"""FSDP2 for models that do not fit on each device: Lightning's ModelParallelStrategy with atomic checkpoints."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from mpo_lightning.errors import InputError
from mpo_lightning.runs.checkpoints.sharded import load_sharded, read_rest, save_sharded
from mpo_lightning.runs.lightning_internals import bare_optimizer, set_mesh, shard_mesh

OPTIONS = "optimizer_options"
"""Key in a checkpoint for the options of optimizers without a state."""


class FSDP2Strategy(ModelParallelStrategy):
    """Shards policy, reference and optimizer over all devices.

    Args:
        replicas: number of full copies of the models, each sharded over a group of devices. 1 shards over all devices.
            More is hybrid sharding, which gathers weights within a group and averages gradients between groups. "nodes"
            keeps one copy on each machine.
        timeout: how long a device waits for the others before the run stops.
        process_group_backend: backend of the process group; None is nccl on GPUs and gloo on CPUs.
    """

    def __init__(
        self,
        replicas: int | Literal["nodes"] = 1,
        timeout: timedelta = timedelta(minutes=30),
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timeout)
        self.replicas = replicas

    def setup_environment(self) -> None:
        """Sets up the processes and the device mesh.

        Raises:
            InputError: the devices cannot be divided into the replicas.
        """
        devices = self.num_nodes * self.num_processes
        replicas = self.num_nodes if self.replicas == "nodes" else self.replicas
        if replicas < 1 or devices % replicas:
            raise InputError(
                f"trainer.strategy replicas {replicas} does not divide the {devices} devices; choose a divisor, or 1 "
                "to shard over all"
            )
        set_mesh(self, replicas, devices // replicas)
        super().setup_environment()

    @property
    def shard_mesh(self) -> DeviceMesh:
        """The mesh to shard over: one dimension, or two with the replicas first."""
        return shard_mesh(self)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns this rank's shards on their device; the writer copies them to the host a few at a time."""
        assert self.model is not None
        return get_model_state_dict(self.model)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns the sharded optimizer state, or only the options of an optimizer without a state.

        For an optimizer without a state torch would create one by taking a step, which AdamW counts.
        """
        assert self.model is not None
        optimizer = bare_optimizer(optimizer)
        if optimizer.state:
            return get_optimizer_state_dict(self.model, optimizer)
        options = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        return {OPTIONS: options}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        complete = "optimizer_states" in checkpoint
        tensors = {"state_dict": checkpoint.pop("state_dict")}
        states = {f"optimizer_{number}": state for number, state in enumerate(checkpoint.pop("optimizer_states", []))}
        checkpoint[OPTIONS] = {name: state[OPTIONS] for name, state in states.items() if OPTIONS in state}
        tensors |= {name: state for name, state in states.items() if OPTIONS not in state}
        save_sharded(tensors, checkpoint, Path(self.broadcast(str(filepath))), complete)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads models and optimizers, and returns the rest of the checkpoint.

        Raises:
            InputError: the checkpoint belongs to a run that was not sharded, or to another model.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        if path.is_file():
            raise InputError(
                f"--ckpt_path {path}: the checkpoint belongs to a run that was not sharded; resume with the strategy "
                "of that run, or run 'mpo model export' and start from the exported folder"
            )
        assert self.model is not None
        weights = get_model_state_dict(self.model)
        load_sharded({"state_dict": weights}, path)
        self.model.load_state_dict(weights)
        rest = read_rest(path)
        for number, optimizer in enumerate(self.optimizers):
            name = f"optimizer_{number}"
            if name in rest[OPTIONS]:
                for group, options in zip(optimizer.param_groups, rest[OPTIONS][name], strict=True):
                    group.update(options)
                continue
            state = {name: get_optimizer_state_dict(self.model, optimizer)}
            load_sharded(state, path)
            set_optimizer_state_dict(self.model, optimizer, optim_state_dict=cast(Any, state[name]))
        return rest
