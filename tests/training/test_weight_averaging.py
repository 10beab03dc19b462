"""Lightning's callbacks that average weights: the export is the average, and a resumed run has the same one."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from mpo_lightning.models.loading import load_model
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.training import ExportPolicy, StepCheckpoint
from mpo_lightning.training.checkpoint_export import export_checkpoint
from support.runs import make_run


class Weights(L.Callback):
    """The policy's weights after each step, by the step; taken before an average replaces them."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        model = pl_module.policy.model
        self.after[trainer.global_step] = {name: value.clone() for name, value in model.state_dict().items()}


def fit(folder: Path, model: Path, shards: Path, averaging: L.Callback, steps: int, resume: Path | None = None):
    weights = Weights()
    callbacks = [averaging, weights, StepCheckpoint(every_n_train_steps=1, save_top_k=-1), ExportPolicy()]
    trainer, module, data = make_run(
        folder,
        model,
        shards / "train",
        data={"max_tiles": 1},
        trainer={"max_steps": steps, "callbacks": callbacks, "plugins": [ManifestCheckpointIO()]},
        warmup_ratio=0.0,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return weights.after, module


def of(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.rglob(pattern))))


def expect_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)


def test_the_export_is_the_mean_over_the_steps(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    after, module = fit(tmp_path, tiny_folder, shards, WeightAveraging(), steps=3)
    mean = {name: sum(after[step][name] for step in (1, 2, 3)) / 3 for name in after[1]}
    exported = load_model(of(tmp_path, "export")).state_dict()
    expect_equal(exported, mean)
    assert any((exported[name] - after[3][name]).abs().max() > 1e-4 for name in mean)
    export_checkpoint(of(tmp_path, "*step=3.ckpt"), tmp_path / "later", None)
    expect_equal(load_model(tmp_path / "later").state_dict(), exported)
    # The reference is shared by the copy that is averaged, and is what it was.
    start = load_model(tiny_folder).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in module.reference.model.state_dict().items())


def test_a_resumed_run_goes_on_with_its_average(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    after, _ = fit(tmp_path / "whole", tiny_folder, shards, EMAWeightAveraging(decay=0.5), steps=4)
    saved = of(tmp_path / "whole", "*step=2.ckpt")
    again, _ = fit(tmp_path / "again", tiny_folder, shards, EMAWeightAveraging(decay=0.5), steps=4, resume=saved)
    assert 1 not in again and 4 in again
    # torch's average starts at the weights of its first update.
    mean = after[1]
    for step in (2, 3, 4):
        mean = {name: 0.5 * value + 0.5 * after[step][name] for name, value in mean.items()}
    for folder in ("whole", "again"):
        expect_equal(load_model(of(tmp_path / folder, "export")).state_dict(), mean)
    content = torch.load(saved, weights_only=True)
    assert not any("reference." in name for name in [*content["state_dict"], *content["current_model_state"]])


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_stochastic_weight_averaging_trains(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    swa = StochasticWeightAveraging(swa_lrs=1e-4, swa_epoch_start=1)
    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        shards / "train",
        data={"max_tiles": 1},
        trainer={"max_epochs": 2, "limit_train_batches": 4, "callbacks": [swa]},
    )
    trainer.fit(module, data)
    start = load_model(tiny_folder).state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in module.policy.model.state_dict().items())
