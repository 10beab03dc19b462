"""What is saved, and that a resumed run continues exactly."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mpo_lightning.errors import InputError
from support.runs import logged, make_run


class StopAfter(L.Callback):
    """Raises after a number of micro-batches, as a kill would."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.batches -= 1
        if self.batches == 0:
            raise ZeroDivisionError("killed")


def checkpointer(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "checkpoints", every_n_train_steps=1, save_last=True, save_top_k=1)


def run(
    folder: Path,
    tiny_folder: Path,
    shards: Path,
    workers: int = 0,
    stop: int | None = None,
    resume: Path | None = None,
    **module: object,
):
    # The stop comes after the checkpoint of its step was written.
    callbacks = [checkpointer(folder), *([StopAfter(stop)] if stop else [])]
    trainer, model, data = make_run(
        folder, tiny_folder, shards / "train", data={"num_workers": workers, "global_batch_size": 8, "micro_batch_size": 4},
        trainer={"max_epochs": 2, "callbacks": callbacks}, drop_path=0.2, **module,
    )  # fmt: skip
    if stop:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(model, data, ckpt_path=resume)
    else:
        trainer.fit(model, data, ckpt_path=resume)
    return model


@pytest.mark.parametrize("stop", [7, 15])
def test_a_resumed_run_has_the_same_losses_and_weights(tmp_path: Path, tiny_folder: Path, shards: Path, stop: int) -> None:
    """Killed in the middle of a step, in the first and in the second epoch; resumed with another number of workers."""
    whole = run(tmp_path / "whole", tiny_folder, shards)
    run(tmp_path / "killed", tiny_folder, shards, stop=stop)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    steps_done = torch.load(last, weights_only=True)["global_step"]
    assert steps_done == stop // 2
    resumed = run(tmp_path / "resumed", tiny_folder, shards, workers=1, resume=last)
    for name in ("train/loss", "train/delta", "train/margin"):
        assert logged(tmp_path / "resumed", name) == logged(tmp_path / "whole", name)[steps_done:]
    expected = whole.policy.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.policy.state_dict().items())
    assert (resumed.shift.sum, resumed.shift.count) == (whole.shift.sum, whole.shift.count) and whole.shift.count == 2 * 2 * 56


def test_a_checkpoint_has_the_policy_and_delta_but_no_reference(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"policy"}
    assert saved["reward_shift"]["count"] == 2 * 16 and "hyper_parameters" not in saved
    assert saved["MMPRDataModule"] == {"step": 2, "global_batch_size": 8, "seed": 0}


def test_a_changed_global_batch_or_seed_is_refused_on_resume(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    for change, words in (
        ({"global_batch_size": 4}, "global_batch_size 8, not 4"),
        ({"seed": 9, "global_batch_size": 8}, "seed 0, not 9"),
    ):
        trainer, model, data = make_run(tmp_path / "again", tiny_folder, shards / "train", data=change)
        with pytest.raises(InputError, match=words):
            trainer.fit(model, data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    model = run(tmp_path, tiny_folder, shards, stop=3)
    state = model.state_dict()
    del state["policy.model.lm_head.weight"]
    with pytest.raises(InputError, match=r"lm_head\.weight is missing"):
        model.load_state_dict(state)
