"""A run of two processes that is long enough to be disturbed."""

from pathlib import Path
from typing import Any


def fit_words(folder: Path, root: Path, shards: Path, tiny_folder: Path, strategy: str, *more: str) -> list[str]:
    """The words after `mpo`: 14 steps, a checkpoint every second one."""
    overlays = [
        part
        for name in ("base", "recipe/mpo", f"strategy/{strategy}")
        for part in ("--config", str(root / f"configs/{name}.yaml"))
    ]
    return [
        "fit",
        *overlays,
        "--trainer.precision=32-true",
        "--trainer.strategy.timeout=0:02:00",
        f"--trainer.default_root_dir={folder}",
        f"--model.policy={tiny_folder}",
        f"--data.train={shards / 'train'}",
        "--data.global_batch_size=4",
        "--data.micro_batch_size=2",
        "--data.num_workers=0",
        "--data.max_length=1024",
        "--data.max_tiles=2",
        "--model.gradient_checkpointing=false",
        "--trainer.max_epochs=1",
        "--trainer.enable_progress_bar=false",
        "--ckpt_path=auto",
        "--trainer.callbacks+=mpo_lightning.training.StepCheckpoint",
        "--trainer.callbacks.every_n_train_steps=2",
        *more,
    ]


def fit_arguments(*arguments: Any) -> list[str]:
    """The same for Python."""
    return ["-m", "mpo_lightning", *fit_words(*arguments)]


def begun(folder: Path) -> bool:
    """Whether it is some steps behind its start."""
    metrics = folder / "version_0" / "metrics.csv"
    return metrics.exists() and metrics.read_text().count("\n") > 6
