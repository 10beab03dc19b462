"""Exports a training checkpoint as a folder that plain transformers loads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import check_output, whole_folder
from mpo_lightning.models.export import refuse_nonfinite, save_folder
from mpo_lightning.models.loading import load_model, load_processor, stored_dtype
from mpo_lightning.models.lora import Lora, add_adapters, merged_weights
from mpo_lightning.models.processor import Processor
from mpo_lightning.runs.checkpoints.choice import check_checkpoint, read_content
from mpo_lightning.runs.checkpoints.sharded import load_sharded, read_rest
from mpo_lightning.training.datamodule import MMPRDataModule

PREFIX = "policy.model."


def export_checkpoint(checkpoint: Path, output: Path, policy: str | None, dtype: torch.dtype | None = None) -> int:
    """Writes a checkpoint's policy, with adapters merged, its tokenizer and its settings.

    Args:
        checkpoint: a .ckpt of `mpo fit`: a file, or the folder of a sharded run.
        output: a new folder.
        policy: checkpoint folder that training started from; None takes the one that the checkpoint names.
        dtype: dtype of the weights; None keeps that of the folder that training started from.

    Returns:
        The step of the checkpoint.

    Raises:
        InputError: the checkpoint is damaged or not finite, or the policy's folder is missing or of another model.
    """
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: no such checkpoint; a run keeps its own in RUN/version_N/checkpoints")
    if (checkpoint / "checkpoint").is_dir():
        raise InputError(
            f"{checkpoint}: this is a DeepSpeed checkpoint; convert it with its zero_to_fp32.py, or use the run's own "
            "export"
        )
    check_output(output)
    check_checkpoint(checkpoint)
    content = read_content(checkpoint) if checkpoint.is_file() else read_rest(checkpoint)
    source = content.get("policy")
    source = source if isinstance(source, dict) else {}
    folder = policy or source.get("folder")
    if not isinstance(folder, str):
        raise InputError(f"{checkpoint}: does not name the model that it was trained from; give --policy MODEL")
    order = content.get(MMPRDataModule.__qualname__, {})
    model, processor = load_model(folder), _processor(folder, order if isinstance(order, dict) else {})
    try:
        step = int(content["global_step"])
        if source.get("lora"):
            add_adapters(model, Lora(**source["lora"]))
        _load_weights(model, checkpoint, content)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"{checkpoint}: does not fit {folder} ({reason:.200}); give the model it was trained from"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{checkpoint}: not a checkpoint of 'mpo fit' ({type(error).__name__}: {error})") from None
    refuse_nonfinite(dict(model.named_parameters()), str(checkpoint), "export an earlier checkpoint")
    weights = merged_weights(model, model.state_dict()) if source.get("lora") else None
    tiles = order.get("max_tiles", processor.max_tiles)
    with whole_folder(output) as partial:
        save_folder(
            model,
            replace(processor, max_tiles=tiles),
            partial,
            state_dict=weights,
            dtype=dtype or stored_dtype(folder),
        )
    return step


def _processor(folder: str, order: dict[str, Any]) -> Processor:
    """Returns the folder's processor with the prompt that was trained, which the checkpoint's data order names."""
    system = order.get("system_message")
    message = "auto" if system is None else str(system) or "none"
    return load_processor(folder, str(order.get("template", "auto")), message, order.get("trained_newline"))


def _load_weights(model: nn.Module, checkpoint: Path, content: dict[str, Any]) -> None:
    """Loads the policy's weights from a checkpoint's content, or from the folder of a sharded one."""
    if checkpoint.is_file():
        state = content["state_dict"].items()
        model.load_state_dict({name.removeprefix(PREFIX): value for name, value in state if name.startswith(PREFIX)})
        return
    # Loaded in place, piece by piece, so that memory holds one copy.
    load_sharded({"state_dict": {PREFIX + name: value for name, value in model.state_dict().items()}}, checkpoint)
