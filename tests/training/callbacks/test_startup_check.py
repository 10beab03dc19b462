"""The start-up check measures what it says and stops a broken run."""

from pathlib import Path

import pytest
import torch

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.objectives import IPO, ORPO, TermWeights, mpo
from mpo_lightning.training import StartupCheck
from mpo_lightning.training.callbacks.startup_check import TOLERANCE
from support.runs import make_run


class Spy(StartupCheck):
    """Keeps what the check said."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def check(self, *args: object) -> str:
        self.words.append(super().check(*args))
        return self.words[-1]


def fit(
    folder: Path,
    tiny: Path,
    shards: Path,
    spy: Spy,
    trainer: dict | None = None,
    break_it: bool = False,
    **module: object,
) -> None:
    limits = {"max_steps": 1, "max_epochs": None, "callbacks": [spy]} | (trainer or {})
    built, model, data = make_run(folder, tiny, shards / "train", drop_path=0.5, trainer=limits, **module)
    if break_it:
        model.configure_model()
        with torch.no_grad():
            model.policy.model.lm_head.weight.mul_(1.05)
    built.fit(model, data)


def test_it_says_0_832_plus_the_generation_loss(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    spy = Spy()
    fit(tmp_path, tiny_folder, shards, spy)
    (words,) = spy.words
    assert (
        "(0.8318 + generation" in words
        and "largest margin 0, predicted 0" in words
        and f"tolerance {TOLERANCE['float32']}" in words
    )


def test_it_passes_in_bf16_within_its_tolerance(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    spy = Spy()
    fit(tmp_path, tiny_folder, shards, spy, trainer={"precision": "bf16-mixed"})
    assert f"tolerance {TOLERANCE['reduced']}" in spy.words[0]


def test_it_predicts_other_objectives_too(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    spy = Spy()
    fit(tmp_path, tiny_folder, shards, spy, preference=IPO(), weights=TermWeights(1.0, 0.0, 0.0))
    assert "total 25.0000, predicted 25.0000" in spy.words[0]  # (0 - 1/(2 * 0.1))^2


def test_its_prediction_does_not_come_from_the_code_it_checks(
    tmp_path: Path, tiny_folder: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpo, "quality_loss", lambda chosen, rejected, delta: 3 + chosen - rejected)
    with pytest.raises(InputError, match=r"predicted \d+\.\d+ \(0\.8318 \+ generation"):
        fit(tmp_path, tiny_folder, shards, Spy())


def test_it_stops_when_the_policy_is_not_the_reference(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    with pytest.raises(InputError, match="Likely causes"):
        fit(tmp_path, tiny_folder, shards, Spy(), break_it=True)


def test_it_is_skipped_without_a_reference_or_with_another_one(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    for number, options in enumerate(
        ({"reference": str(tmp_path / "other")}, {"preference": ORPO(), "weights": TermWeights(0.1, 0, 1)})
    ):
        spy = Spy()
        fit(tmp_path / str(number), tiny_folder, shards, spy, **options)
        assert spy.words == []


def test_another_spelling_of_the_same_folder_is_the_same(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    spy = Spy()
    (tmp_path / "link").symlink_to(tiny_folder)
    fit(tmp_path, tiny_folder, shards, spy, reference=str(tmp_path / "link"))
    assert len(spy.words) == 1


def test_it_leaves_the_policy_training_and_delta_alone(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    built, model, data = make_run(
        tmp_path, tiny_folder, shards / "train", reward_shift="micro_batches",
        trainer={"max_steps": 1, "max_epochs": None, "callbacks": [StartupCheck()]},
    )  # fmt: skip
    built.fit(model, data)
    assert model.policy.training and not model.reference.training
    assert model.shift.count == 2  # the two micro-batches of the step, not the check
