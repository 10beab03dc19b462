"""Small runs under several strategies, the same in one process and in many.

    torchrun --nproc_per_node N -m support.strategies FOLDER VARIANT[@CHECKPOINT] ...    (in tests/)

runs variants one after the other in the same processes; each leaves metrics.csv and checkpoints of steps 0, 2, 4 in
FOLDER/N/VARIANT.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from mpo_lightning.models.lora import Lora
from mpo_lightning.objectives import TRDPO
from mpo_lightning.training import Alarms, ExportPolicy, FSDP2Strategy, MPOModule, StepCheckpoint
from support.runs import make_run

LIMIT = timedelta(seconds=60)
ADAMW = {"optimizer": lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)}

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # name: strategy, arguments of the module, of the trainer
    "fsdp2": ("fsdp2", ADAMW, {}),
    "fsdp2-shared-features": ("fsdp2", {"freeze": ["vision_tower", "projector"], "reference": None}, {}),
    "fsdp2-adapters": (
        "fsdp2",
        {"lora": Lora(rank=4, dropout=0), "reference_source": "adapter", "reference": None},
        {},
    ),
    "fsdp2-cache": ("fsdp2", {"reference_source": "cache"}, {}),
    "fsdp2-recomputed": ("fsdp2", {"gradient_checkpointing": True, "drop_path": 0.3}, {}),
    "fsdp2-moving-reference": ("fsdp2", {"preference": TRDPO(alpha=0.5, every_n_steps=2)}, {}),
    "fsdp2-bf16": ("fsdp2", {}, {"precision": "bf16-mixed"}),
    "fsdp2-qwen3": ("fsdp2", ADAMW | {"reference": None}, {}),
    "fsdp2-moe": ("fsdp2", ADAMW | {"reference": None, "gradient_checkpointing": True}, {}),
    "fsdp2-moe-adapters": (
        "fsdp2",
        {"lora": Lora(rank=4, dropout=0, experts=True), "reference_source": "adapter", "reference": None},
        {},
    ),
    "fsdp2-gpt-oss": ("fsdp2", ADAMW | {"reference": None}, {}),
    "hybrid": ("hybrid", ADAMW, {}),
    "ddp-cache": ("ddp", {"reference_source": "cache"}, {}),
}
"""What differs from: SGD, a reference of its own in memory, clipping at 1, float32."""


MODELS = {
    "fsdp2-qwen3": "internvl3_5_qwen3",
    "fsdp2-moe": "internvl3_5_qwen3_moe",
    "fsdp2-moe-adapters": "internvl3_5_qwen3_moe",
    "fsdp2-gpt-oss": "internvl3_5_gpt_oss",
}
"""Variants that train a golden checkpoint, FOLDER/NAME, instead of FOLDER/model0."""


def strategy(name: str) -> Any:
    if name == "ddp":
        return DDPStrategy(broadcast_buffers=False, timeout=LIMIT)
    return FSDP2Strategy(replicas=2 if name == "hybrid" else 1, timeout=LIMIT)


def run(folder: Path, variant: str, devices: int, resume: str | None = None) -> MPOModule:
    """Trains a variant on FOLDER/shards from FOLDER/model0, with the reference FOLDER/model1; may resume."""
    kind, module, trainer = VARIANTS[variant]
    settings = {"reference": str(folder / "model1")} | module
    many = {"devices": devices, "strategy": strategy(kind)} if devices > 1 or TorchElasticEnvironment.detect() else {}
    callbacks: list[L.Callback] = [
        StepCheckpoint(folder / f"{devices}" / variant / "checkpoints", every_n_train_steps=2, save_top_k=-1)
    ]
    if variant.endswith("-adapters"):
        callbacks.append(ExportPolicy(str(folder / f"{devices}" / variant / "export")))
    callbacks.append(Alarms(samples=2, max_new_tokens=12))
    built, model, data = make_run(
        folder / f"{devices}" / variant,
        folder / MODELS.get(variant, "model0"),
        folder / "shards" / "train",
        data={
            "micro_batch_size": 1,
            "on_bad_record": "quarantine",
            "cached_reference": settings.get("reference_source") == "cache",
            "reference": settings["reference"],
            "validation": str(folder / "shards" / "train"),
        },
        trainer={"callbacks": callbacks, "gradient_clip_val": 1.0} | trainer | many,
        **settings,
    )
    L.seed_everything(0, verbose=False)  # where adapters start
    built.fit(model, data, ckpt_path=resume)
    return model


if __name__ == "__main__":
    assert TorchElasticEnvironment.detect(), "started by torchrun"
    world = TorchElasticEnvironment().world_size()
    for name in sys.argv[2:]:
        variant, _, resume = name.partition("@")
        run(Path(sys.argv[1]), variant, world, resume or None)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
