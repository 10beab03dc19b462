"""Exports the policy at the end of training, as a folder that plain transformers loads, with a model card."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from mpo_lightning import __version__
from mpo_lightning.files.whole import whole_folder
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.loading import stored_dtype
from mpo_lightning.models.lora import merged_weights, save_adapter
from mpo_lightning.training.datamodule import MMPRDataModule
from mpo_lightning.training.module import MPOModule


class ExportPolicy(L.Callback):
    """Writes `save_pretrained` files and README.md when training ends, even if a resumed run had no step left.

    Args:
        folder: folder to write; None is `export` in the run folder.
        dtype: dtype of the exported weights; auto is that of the checkpoint folder that training started from.
    """

    def __init__(
        self, folder: str | None = None, dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    ) -> None:
        self.folder = folder
        self.dtype = dtype
        self._dtype: torch.dtype | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and isinstance(pl_module, MPOModule):
            start = pl_module.models.options.policy
            self._dtype = stored_dtype(start) if self.dtype == "auto" else getattr(torch, self.dtype)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        datamodule = getattr(trainer, "datamodule", None)
        assert (
            isinstance(pl_module, MPOModule) and isinstance(datamodule, MMPRDataModule) and pl_module.policy is not None
        )
        output = Path(self.folder) if self.folder else Path(trainer.log_dir or trainer.default_root_dir) / "export"
        # Gathers sharded weights; every rank takes part.
        weights: dict[str, Any] = get_model_state_dict(
            pl_module.policy.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )
        # Only rank 0 gets sharded weights.
        if trainer.is_global_zero:
            adapters = weights
            options = pl_module.models.options
            if options.lora:
                weights = merged_weights(pl_module.policy.model, weights)
            with whole_folder(output, replace=True) as partial:
                processor = replace(datamodule.processor, max_tiles=datamodule.encoder.max_tiles)
                save_folder(pl_module.policy.model, processor, partial, state_dict=weights, dtype=self._dtype)
                (partial / "README.md").write_text(model_card(trainer, pl_module, datamodule), encoding="utf-8")
                if options.lora:
                    save_adapter(options.lora, adapters, options.policy, partial / "adapter")
            rank_zero_info(f"exported the policy to {output}")


def model_card(trainer: L.Trainer, module: MPOModule, datamodule: MMPRDataModule) -> str:
    """Returns the exported folder's README.md: the models, the data, and how the policy was trained."""
    objective, weights = module.objective, module.objective.weights
    metrics = {
        name: float(value)
        for name, value in sorted(trainer.callback_metrics.items())
        if name.startswith(("train/", "val/"))
    }
    rows = "".join(f"| {name} | {value:.4f} |\n" for name, value in metrics.items())
    data = {name: folder for name, folder in datamodule.folders.items() if folder and name != "test"}
    group = trainer.optimizers[0].param_groups[0]
    assert module.policy is not None
    family, models, template = module.policy.family, module.models.options, datamodule.processor.template
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [mpo, preference-optimization, {family.name.lower()}]
---

# {Path(models.policy).name}, tuned with MPO

Trained with Mixed Preference Optimization (Wang et al. 2024, arXiv 2411.10442) by mpo-lightning {__version__}.

| | |
| --- | --- |
| policy | {models.policy} |
| reference | {f"{models.reference_folder} ({models.reference_source})" if objective.needs_reference else "none"} |
| data | {", ".join(f"{name}: {folder}" for name, folder in data.items())} |
| preference loss | {type(objective.preference).__name__}, weight {weights.preference:g} |
| quality loss | BCO, weight {weights.quality:g}, delta {module.shift.mean:.4f} at the end |
| generation loss | mean over each {objective.generation_mean}, weight {weights.generation:g} |
| beta | {objective.beta:g} |
| training | {trainer.global_step} steps of {datamodule.global_batch_size} pairs, {trainer.current_epoch} epochs, seed {datamodule.seed} |
| optimizer | {type(trainer.optimizers[0]).__name__}, learning rate {group.get("initial_lr", 0):g}, weight decay {group.get("weight_decay", 0):g} |
| trained parts | {"adapters of rank " + str(models.lora.rank) + ", merged" if models.lora else "all but " + ", ".join(models.frozen_parts) if models.frozen_parts else "all"} |
| precision | {trainer.precision} |
| prompt | template {template.name}, system message: {f"`{template.system_message!r}`" if template.system_message else "none"} |
| trained of an answer | {"what follows its thinking" if datamodule.encoder.thinking == "context" else "all"}, the end token{" and the newline behind it" if template.trained_newline else ""} |
| images | at most {datamodule.encoder.max_tiles} tiles for those of a question together, thumbnails not counted |

Last logged values:

| metric | value |
| --- | --- |
{rows}
The licence is that of the base model; check it before you share these weights.

```python
from transformers import AutoImageProcessor, AutoTokenizer, {family.model_class.__name__}

model = {family.model_class.__name__}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
pictures = AutoImageProcessor.from_pretrained(".")
```
"""
