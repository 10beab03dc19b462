"""What a resumed run must keep of the one that its checkpoint is of: the models it started from, what of them is trained, the objective and the optimizer."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from mpo_lightning.models.opengvlab.cache import native_folder
from mpo_lightning.objectives import MPOObjective

BLOCK, BLOCKS = 2**16, 16


def folder_sample(folder: str | Path) -> str:
    """Names a checkpoint folder's weights and config by sixteen blocks of each file, wherever it lies; quick however large they are.

    Training moves nearly every number, so that another state of a model differs in the blocks.
    """
    digest = hashlib.sha256()
    for path in sorted([*Path(folder).glob("*.safetensors"), Path(folder) / "config.json"]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for place in range(BLOCKS):
                file.seek(max(0, size - BLOCK) * place // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def describe(objective: MPOObjective, reward_shift: str) -> dict[str, Any]:
    """The objective in plain values, by the names of their options."""
    rule = objective.preference
    weights = {f"model.weights.{name}": getattr(objective.weights, name) for name in ("preference", "quality", "generation")}
    options = {f"model.preference.{name}": value for name, value in vars(rule).items() if isinstance(value, int | float | str)}
    return weights | {
        "model.beta": objective.beta,
        "model.preference": type(rule).__name__,
        "model.generation_mean": objective.generation_mean,
        "model.reward_shift": reward_shift,
    } | options  # fmt: skip


FREE = ("lr", "foreach", "fused", "capturable", "differentiable")
"""Options of optimizers that a resumed run may change: the learning rate, and how the same numbers are computed."""


def describe_optimizer(make: OptimizerCallable) -> dict[str, Any]:
    """The optimizer's class and options in plain values; without its learning rate, which may change. Nothing where it cannot be made, which is said when it is."""
    try:
        optimizer = make([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (ValueError, TypeError, RuntimeError, AssertionError):
        return {}
    options = {
        f"model.optimizer.{name}": list(value) if isinstance(value, tuple) else value
        for name, value in optimizer.defaults.items()
        if name not in FREE and isinstance(value, int | float | str | tuple)
    }
    return {"model.optimizer": type(optimizer).__name__} | options


class RunIdentity:
    """What a checkpoint says of its run, and a resumed one is compared with.

    Args:
        options: of the run, by their names, in plain values.
        folders: of models, by the names of their options.
    """

    def __init__(self, options: dict[str, Any], folders: dict[str, str]) -> None:
        self.options = options
        self.folders = folders
        self._samples: dict[str, str] | None = None

    def state_dict(self) -> dict[str, dict[str, Any]]:
        if self._samples is None:
            self._samples = {name: folder_sample(native_folder(folder)) for name, folder in self.folders.items()}
        return {"options": self.options, "folders": self.folders, "samples": self._samples}

    def difference(self, before: dict[str, dict[str, Any]]) -> str | None:
        """The sentence for the first thing in which this run is another one; None if it is the same.

        Args:
            before: `state_dict` of the checkpoint's run; empty in checkpoints of earlier versions.
        """
        now = self.state_dict()
        for kind, said in (
            ("options", "{name} {before}, not {now}"),
            ("samples", "{name} {folder}, whose weights are not those of {ours}"),
        ):
            for name, value in before.get(kind, {}).items():
                if name in now[kind] and now[kind][name] != value:
                    words = said.format(
                        name=name,
                        before=value,
                        now=now[kind][name],
                        folder=before["folders"].get(name),
                        ours=self.folders.get(name),
                    )
                    return (
                        f"the checkpoint was made with {words}; keep it, or start another run in another trainer.default_root_dir"
                    )
        return None
