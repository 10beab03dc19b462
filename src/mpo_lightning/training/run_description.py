"""The settings that decide a run's steps, as plain values; checkpoints hold them, and resumed runs must match them."""

from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from mpo_lightning.models.loading import native_folder
from mpo_lightning.objectives import MPOObjective
from mpo_lightning.runs.identity import RunIdentity
from mpo_lightning.training.policy_and_reference import ModelOptions


def run_identity(
    objective: MPOObjective, reward_shift: str, models: ModelOptions, make: OptimizerCallable
) -> RunIdentity:
    """Returns the identity that this run's checkpoints hold, which a resumed run must match."""
    folders = {"model.policy": models.policy}
    folders |= {"model.reference": models.reference_folder} if objective.needs_reference else {}
    described = describe(objective, reward_shift) | describe_models(models) | describe_optimizer(make)
    return RunIdentity(described, folders, native_folder)


def describe(objective: MPOObjective, reward_shift: str) -> dict[str, Any]:
    """Returns the objective's settings as plain values, by the names of their options."""
    rule = objective.preference
    weights = {
        f"model.weights.{name}": getattr(objective.weights, name) for name in ("preference", "quality", "generation")
    }
    options = {
        f"model.preference.{name}": value for name, value in vars(rule).items() if isinstance(value, int | float | str)
    }
    return (
        weights
        | {
            "model.beta": objective.beta,
            "model.preference": type(rule).__name__,
            "model.generation_mean": objective.generation_mean,
            "model.reward_shift": reward_shift,
        }
        | options
    )


def describe_models(options: ModelOptions) -> dict[str, Any]:
    """Returns the settings of the trained weights as plain values, by the names of their options."""
    return {
        "model.drop_path": options.drop_path,
        "model.freeze": sorted(options.freeze),
        "model.lora": asdict(options.lora) if options.lora else None,
    }


FREE = ("lr", "foreach", "fused", "capturable", "differentiable")
"""Optimizer options that a resumed run may change: the learning rate, and how the same numbers are computed."""


def describe_optimizer(make: OptimizerCallable) -> dict[str, Any]:
    """Returns the optimizer's class and options as plain values, without those that may change.

    The result is empty if the optimizer cannot be made; making it for the run raises the error.
    """
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
