"""A training checkpoint as a folder that plain transformers loads."""

from pathlib import Path
from typing import Any

import torch

from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.lora import Lora, add_adapters, merged_weights
from mpo_lightning.models.tensor_files import whole_folder
from mpo_lightning.training.checkpoints import check_file

PREFIX = "policy.model."


def export_checkpoint(checkpoint: Path, output: Path, policy: str | None) -> int:
    """Writes a checkpoint's policy, adapters merged, beside its tokenizer and settings.

    Args:
        checkpoint: a .ckpt file of `mpo fit`.
        output: a new folder.
        policy: checkpoint folder that training started from; None takes the one that the file names.

    Returns:
        The step of the checkpoint.

    Raises:
        InputError: the file is damaged, or the folder is gone or another model's.
    """
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint file; a run keeps its own in RUN/version_N/checkpoints")
    check_file(checkpoint)
    content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    source = content.get("policy") or {}
    folder = policy or source.get("folder")
    if folder is None:
        raise InputError(f"{checkpoint}: it does not say which model it was trained from; give --policy MODEL")
    model, processor = load_model(folder), load_processor(folder)
    if source.get("lora"):
        add_adapters(model, Lora(**source["lora"]))
    state = {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items() if name.startswith(PREFIX)}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"{checkpoint}: it does not fit {folder} ({reason:.200}); give the model it was trained from") from None
    weights = merged_weights(model, model.state_dict()) if source.get("lora") else None
    with whole_folder(output) as partial:
        save_folder(model, processor, partial, state_dict=weights)
    return int(content["global_step"])
