"""A validation that a kill kept from its end is made up for before the next step, with the same numbers and the same
consequences.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from mpo_lightning.runs.checkpoints.choice import CHOSEN, find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.training import StepCheckpoint
from support.runs import make_run


class StopInValidation(L.Callback):
    """Raises in a validation batch, as a kill would.

    Args:
        batch: which, counted over all validations.
    """

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_validation_batch_end(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("killed")


def fit(
    folder: Path,
    tiny_folder: Path,
    shards: Path,
    stops: list[int],
    every: float = 1.0,
    more: Callable[[], list[L.Callback]] = list,
    **limits: int,
):
    """Two epochs of three steps, a checkpoint after each, going on after every stop; returns the last trainer and
    module.
    """
    for stop in [*stops, None]:
        callbacks = [StepCheckpoint(every_n_train_steps=1, save_top_k=1), *more()]
        callbacks += [StopInValidation(stop)] if stop else []
        trainer, model, data = make_run(
            folder,
            tiny_folder,
            shards / "train",
            data={"global_batch_size": 8, "micro_batch_size": 4, "validation": str(shards / "validation")},
            trainer={
                "max_epochs": 2,
                "limit_train_batches": 6,
                "val_check_interval": every,
                "callbacks": callbacks,
                "plugins": [ManifestCheckpointIO()],
            }
            | limits,
        )
        found = find_checkpoint("auto", folder)
        if stop is None:
            trainer.fit(model, data, ckpt_path=found)
        else:
            with pytest.raises(ZeroDivisionError):
                trainer.fit(model, data, ckpt_path=found)
    return trainer, model


def validations(folder: Path) -> list[tuple[str, str, str, str]]:
    """Epoch, step, loss and number of pairs of every validation, over all starts of a run."""
    rows = []
    for path in sorted(folder.glob("version_*/metrics.csv")):
        with path.open(newline="") as file:
            rows += [
                (row["epoch"], row["step"], row["val/loss"], row["val/pairs"])
                for row in csv.DictReader(file)
                if row.get("val/loss")
            ]
    return rows


@pytest.fixture(autouse=True)
def _chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHOSEN, raising=False)


@pytest.mark.parametrize(
    ("every", "stops", "limits", "count"),
    [
        (1.0, [1, 1, 3, 1, 2], {}, 2),
        (2, [2, 3, 1, 3, 3, 3, 3, 1], {}, 6),
        (1.0, [2, 3, 1], {"max_epochs": -1, "max_steps": 6}, 2),
    ],
)
def test_no_validation_is_lost(
    tmp_path: Path, tiny_folder: Path, shards: Path, every: float, stops: list[int], limits: dict[str, int], count: int
) -> None:
    """Two batches a validation; killed in each, the last one's too, at the end of epochs and inside them."""
    _, whole = fit(tmp_path / "whole", tiny_folder, shards, [], every, **limits)
    _, killed = fit(tmp_path / "killed", tiny_folder, shards, stops, every, **limits)
    expected = validations(tmp_path / "whole")
    assert len(expected) == count and {row[3] for row in expected} == {"8.0"}
    assert validations(tmp_path / "killed") == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in killed.state_dict().items())


def test_training_stops_early_as_it_would_have(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    def stopper() -> list[L.Callback]:
        return [EarlyStopping("val/loss", stopping_threshold=1000.0, patience=10)]

    whole, _ = fit(tmp_path / "whole", tiny_folder, shards, [], more=stopper)
    killed, _ = fit(tmp_path / "killed", tiny_folder, shards, [1], more=stopper)
    assert whole.global_step == killed.global_step == 3
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole")


def test_a_validation_that_was_finished_does_not_count_twice(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    """Its checkpoint, written when it ends, knows of it: patience is not used up, and the best ones are not there
    twice.
    """

    class StopAfterValidation(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 2 and not trainer.fit_loop.restarting:
                raise ZeroDivisionError

    def watchers() -> list[L.Callback]:
        return [
            EarlyStopping("val/loss", min_delta=1000.0, patience=20, check_on_train_epoch_end=False),
            StepCheckpoint(
                monitor="val/loss",
                every_n_epochs=1,
                save_top_k=5,
                save_on_train_epoch_end=False,
                filename="best-{step}",
            ),
        ]

    def waited(trainer: L.Trainer) -> int:
        return next(one for one in trainer.callbacks if isinstance(one, EarlyStopping)).wait_count

    whole, _ = fit(tmp_path / "whole", tiny_folder, shards, [], 2, watchers)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "killed", tiny_folder, shards, [], 2, lambda: [*watchers(), StopAfterValidation()])
    killed, _ = fit(tmp_path / "killed", tiny_folder, shards, [], 2, watchers)
    assert waited(killed) == waited(whole) > 1
    assert [row[1] for row in validations(tmp_path / "killed")] == [row[1] for row in validations(tmp_path / "whole")]


def test_a_validation_that_was_not_due_is_not_made_up(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    class StopInTraining(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, tiny_folder, shards, [], more=lambda: [StopInTraining()])
    fit(tmp_path, tiny_folder, shards, [])
    assert [row[1] for row in validations(tmp_path)] == ["2", "5"]
