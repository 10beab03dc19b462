"""What is saved, and that a resumed run continues exactly: the same losses of the same pairs, whatever else changed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.models.loading import load_model
from mpo_lightning.objectives import IPO, TRDPO, TermWeights
from mpo_lightning.runs.checkpoints.choice import find_checkpoint
from mpo_lightning.training import StepCheckpoint
from support.commands import ranks
from support.long_runs import fit_words
from support.mixed_shards import mixed_shards
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


def fit_until(
    trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule, stop: int | None, resume: Path | None
):
    with pytest.raises(ZeroDivisionError) if stop else nullcontext():
        trainer.fit(model, data, ckpt_path=resume)
    return model


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
        folder,
        tiny_folder,
        shards / "train",
        data={"num_workers": workers, "global_batch_size": 8, "micro_batch_size": 4},
        trainer={"max_epochs": 2, "callbacks": callbacks},
        **{"drop_path": 0.2, **module},
    )
    return fit_until(trainer, model, data, stop, resume)


@contextmanager
def two_threads() -> Iterator[None]:
    """Whatever else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, shards: Path) -> tuple[Path, L.LightningModule]:
    """An undisturbed run without workers."""
    folder = tmp_path_factory.mktemp("whole")
    with two_threads():
        return folder, run(folder, tiny_folder, shards)


@pytest.mark.parametrize(("stop", "before", "after"), [(7, 3, 2), (15, 0, 3)])
def test_a_resumed_run_has_the_same_losses_and_weights(
    tmp_path: Path,
    tiny_folder: Path,
    shards: Path,
    whole: tuple[Path, L.LightningModule],
    stop: int,
    before: int,
    after: int,
) -> None:
    """Killed in the middle of a step, in the first and in the second epoch; resumed with another number of workers."""
    folder, undisturbed = whole
    with two_threads():
        run(tmp_path / "killed", tiny_folder, shards, workers=before, stop=stop)
        last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
        steps_done = torch.load(last, weights_only=True)["global_step"]
        assert steps_done == stop // 2
        resumed = run(tmp_path / "resumed", tiny_folder, shards, workers=after, resume=last)
    for name in ("train/loss", "train/delta", "train/margin"):
        expected = logged(folder, name)
        assert logged(tmp_path / "killed", name) == expected[:steps_done]
        assert logged(tmp_path / "resumed", name) == expected[steps_done:]
    weights = undisturbed.policy.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in resumed.policy.state_dict().items())
    assert resumed.shift.sum == undisturbed.shift.sum
    assert resumed.shift.count == undisturbed.shift.count == 2 * 2 * 56


def short_run(
    folder: Path,
    tiny_folder: Path,
    shards: Path,
    micro_batch_size: int = 2,
    stop: int | None = None,
    resume: Path | None = None,
    **limits: object,
):
    """Three epochs of two steps of four pairs, without drop path; a constant rate, since a longer run has another
    cosine.
    """
    callbacks = [checkpointer(folder), *([StopAfter(stop)] if stop else [])]
    trainer, model, data = make_run(
        folder,
        tiny_folder,
        shards / "validation",
        data={"global_batch_size": 4, "micro_batch_size": micro_batch_size},
        trainer={"max_epochs": 3, "callbacks": callbacks} | limits,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
    )
    return fit_until(trainer, model, data, stop, resume)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, shards: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    short_run(folder, tiny_folder, shards)
    return folder


@pytest.mark.parametrize(("stop", "before", "after"), [(3, 2, 1), (5, 2, 4), (13, 1, 3)])
def test_another_micro_batch_size_continues_with_the_same_pairs(
    tmp_path: Path, tiny_folder: Path, shards: Path, undisturbed: Path, stop: int, before: int, after: int
) -> None:
    """In the middle of an epoch and at its end, cut finer and coarser: every step's pairs and losses stay what they
    were.
    """
    short_run(tmp_path / "killed", tiny_folder, shards, stop=stop, micro_batch_size=before)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    steps_done = stop // (4 // before)
    assert torch.load(last, weights_only=True)["global_step"] == steps_done
    short_run(tmp_path / "resumed", tiny_folder, shards, resume=last, micro_batch_size=after)
    for name in ("train/loss", "train/tokens_chosen", "train/pairs"):
        expected = logged(undisturbed, name)[steps_done:]
        assert (
            logged(tmp_path / "resumed", name) == pytest.approx(expected, rel=1e-5) and len(expected) == 6 - steps_done
        )


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_a_run_that_max_steps_ended_goes_on_where_it_stopped(
    tmp_path: Path, tiny_folder: Path, shards: Path, undisturbed: Path, max_steps: int
) -> None:
    """Lightning calls an epoch done that max_steps ended early; its other pairs would be lost."""
    short_run(tmp_path / "first", tiny_folder, shards, max_epochs=None, max_steps=max_steps)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    resumed = short_run(tmp_path / "second", tiny_folder, shards, resume=last, max_epochs=None, max_steps=6)
    assert logged(tmp_path / "second", "train/tokens_chosen") == logged(undisturbed, "train/tokens_chosen")[max_steps:]
    assert resumed.shift.count == 2 * 4 * 6


def test_a_checkpoint_saved_in_the_middle_of_a_step_repeats_the_step(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    class SaveNow(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == 7:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    def fit(folder: Path, resume: Path | None = None, **limits: object):
        trainer, model, data = make_run(
            tmp_path / folder,
            tiny_folder,
            shards / "train",
            data={"global_batch_size": 8, "micro_batch_size": 4},
            drop_path=0.2,
            reward_shift="micro_batches",
            trainer={"callbacks": [SaveNow()]},
        )
        trainer.fit(model, data, ckpt_path=resume)
        return model

    whole = fit("whole")
    (tmp_path / "middle.ckpt").rename(tmp_path / "kept.ckpt")
    resumed = fit("resumed", tmp_path / "kept.ckpt")
    for name in ("train/loss", "train/delta"):
        assert logged(tmp_path / "resumed", name) == logged(tmp_path / "whole", name)[3:]
    assert (resumed.shift.sum, resumed.shift.count) == (whole.shift.sum, whole.shift.count)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_the_end_of_a_run_is_saved(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    """Seven steps, a checkpoint every five."""
    trainer, model, data = make_run(
        tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 8},
        trainer={"callbacks": [StepCheckpoint(tmp_path / "checkpoints", every_n_train_steps=5, save_last="link")]},
    )  # fmt: skip
    trainer.fit(model, data)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == saved["MMPRDataModule"]["step"] == 7
    assert torch.equal(saved["state_dict"]["policy.model.lm_head.weight"], model.policy.model.lm_head.weight)


def test_last_is_the_newest_one_and_is_never_guessed(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    with pytest.raises(InputError, match=r"no last\.ckpt below .*; leave --ckpt_path out to start a new run"):
        find_checkpoint("last", tmp_path)
    with pytest.raises(InputError, match="does not know which one that is"):
        find_checkpoint("best", tmp_path)
    run(tmp_path / "version_0", tiny_folder, shards, stop=3)
    saved = tmp_path / "version_0" / "checkpoints" / "last.ckpt"
    newer = tmp_path / "version_1" / "checkpoints" / "last.ckpt"
    newer.parent.mkdir(parents=True)
    shutil.copy(saved, newer)
    os.utime(saved, (1, 1))
    assert find_checkpoint("last", tmp_path) == str(newer)
    os.utime(newer, (0, 0))
    assert find_checkpoint("last", tmp_path) == str(saved)


def test_a_file_that_is_no_whole_checkpoint_is_named(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=3)
    saved = tmp_path / "checkpoints" / "last.ckpt"
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    for name, words in (
        ("cut", "damaged, cut short"),
        ("text", "damaged, cut short"),
        ("other", ("not a checkpoint of 'mpo fit'")),
    ):
        with pytest.raises(InputError, match=words) as raised:
            find_checkpoint(str(tmp_path / f"{name}.ckpt"), tmp_path)
        assert "\n" not in str(raised.value)


def test_other_pairs_are_refused_on_resume(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    trainer, model, data = make_run(
        tmp_path / "again", tiny_folder, shards / "validation", data={"global_batch_size": 8}, drop_path=0.2
    )
    with pytest.raises(InputError, match="made on other pairs"):
        trainer.fit(model, data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")


def test_evaluating_a_checkpoint_does_not_ask_for_its_batch_size(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    change = {"global_batch_size": 3, "seed": 5, "validation": str(shards / "validation")}
    trainer, model, data = make_run(tmp_path / "again", tiny_folder, shards / "train", data=change)
    trainer.validate(model, data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt", verbose=False)
    assert logged(tmp_path / "again", "val/pairs") == [8] and model.shift.count == 2 * 16


def test_a_moved_reference_does_not_become_anothers(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=5, preference=TRDPO(alpha=0.5, every_n_steps=1))
    with pytest.raises(InputError, match=r"model\.preference TRDPO, not DPO"):
        run(tmp_path / "dpo", tiny_folder, shards, resume=tmp_path / "checkpoints" / "last.ckpt")
    # A preference term without weight moves nothing.
    unweighted = run(
        tmp_path / "bco",
        tiny_folder,
        shards,
        stop=5,
        preference=TRDPO(alpha=0.5, every_n_steps=1),
        weights=TermWeights(0, 1, 1),
    )
    assert torch.equal(unweighted.reference.model.lm_head.weight, load_model(tiny_folder).lm_head.weight)


def test_a_checkpoint_has_the_policy_and_delta_but_no_reference(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"policy"}
    assert saved["reward_shift"]["count"] == 2 * 16 and "hyper_parameters" not in saved
    order = saved["MMPRDataModule"]
    assert (order["step"], order["global_batch_size"], order["seed"], order["steps_per_epoch"]) == (2, 8, 0, 7)


def test_a_changed_global_batch_or_seed_is_refused_on_resume(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, stop=5)
    for change, words in (
        ({"global_batch_size": 4}, "global_batch_size 8, not 4"),
        ({"seed": 9, "global_batch_size": 8}, "seed 0, not 9"),
    ):
        trainer, model, data = make_run(tmp_path / "again", tiny_folder, shards / "train", data=change, drop_path=0.2)
        with pytest.raises(InputError, match=words):
            trainer.fit(model, data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    model = run(tmp_path, tiny_folder, shards, stop=3)
    state = model.state_dict()
    del state["policy.model.lm_head.weight"]
    with pytest.raises(InputError, match=r"lm_head\.weight is missing"):
        model.load_state_dict(state)


def test_records_that_were_set_aside_before_a_kill_are_told_by_the_run_that_ends(
    tmp_path: Path, root: Path, tiny_folder: Path
) -> None:
    train = mixed_shards(tmp_path / "set", root)
    data = {"on_bad_record": "quarantine", "global_batch_size": 4, "micro_batch_size": 2}

    def part(folder: Path, stop: int | None, resume: Path | None):
        callbacks = [checkpointer(folder), *([StopAfter(stop)] if stop else [])]
        trainer, model, module = make_run(folder, tiny_folder, train, data=data, trainer={"callbacks": callbacks})
        fit_until(trainer, model, module, stop, resume)
        return module.quarantine

    whole = part(tmp_path / "whole", None, None)
    assert whole.count() == 1 == len(whole.reasons)
    # Stopped when the record is behind a checkpoint; it may have been met while the next step was fetched.
    stop = next(stop for stop in range(2, 9, 2) if part(tmp_path / f"{stop}", stop, None).reasons) + 2
    part(tmp_path / f"{stop}", stop, None)
    last = part(tmp_path / "resumed", None, tmp_path / f"{stop}" / "checkpoints" / "last.ckpt")
    assert not last.reasons and last.count() == 1  # met before, not again


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"beta": 0.2}, r"model\.beta 0\.1, not 0\.2"),
        ({"weights": TermWeights(0.8, 0.2, 0.5)}, r"model\.weights\.generation 1\.0, not 0\.5"),
        ({"preference": IPO()}, r"model\.preference DPO, not IPO"),
        ({"generation_mean": "token"}, r"model\.generation_mean sequence, not token"),
        ({"reward_shift": "micro_batches"}, r"model\.reward_shift previous_steps, not micro_batches"),
        (
            {"policy": "other"},
            r"model\.policy .*model, whose weights are not those of .*other; use that, or start a new run in another",
        ),
        ({"reference": "other"}, r"model\.reference .*model, whose weights are not those of .*other; use that"),
    ],
)
def test_another_model_or_objective_is_refused(
    tmp_path: Path, tiny_folder: Path, shards: Path, saved_at_2: Path, changed: dict, words: str
) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    changed = {name: str(tmp_path / "other") if value == "other" else value for name, value in changed.items()}
    policy = Path(changed.pop("policy", tiny_folder))
    trainer, model, data = make_run(tmp_path / "run", policy, shards / "train", **changed)
    with pytest.raises(InputError, match=words):
        trainer.fit(model, data, ckpt_path=saved_at_2)


def test_another_learning_rate_or_a_moved_folder_is_not(
    tmp_path: Path, tiny_folder: Path, shards: Path, saved_at_2: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "moved")
    slow = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.01)}
    trainer, model, data = make_run(
        tmp_path / "run", tmp_path / "moved", shards / "train", trainer={"max_steps": 3}, **slow
    )
    trainer.fit(model, data, ckpt_path=saved_at_2)
    assert trainer.global_step == 3


@pytest.fixture(scope="module")
def saved_at_2(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, shards: Path) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    trainer, model, data = make_run(
        folder, tiny_folder, shards / "train", trainer={"callbacks": [checkpointer(folder)], "max_steps": 2}
    )
    trainer.fit(model, data)
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.slow
def test_a_refusal_is_one_sentence_for_all_ranks(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path, saved_at_2: Path
) -> None:
    same = [
        "--model.preference=DPO",
        "--model.drop_path=0",
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.weight_decay=0",
    ]
    more = [f"--ckpt_path={saved_at_2}", "--data.global_batch_size=8", *same]
    done = ranks(2, "mpo", *fit_words(tmp_path / "run", root, shards, tiny_folder, "ddp_cpu", *more))
    assert done.returncode == 2 and done.stderr.count("mpo: ") == 1, done.stderr[-3000:]
    assert (
        "the checkpoint was made with data.global_batch_size 4, not 8" in done.stderr and "Traceback" not in done.stderr
    )


class Rates(L.Callback):
    """The learning rate that each step is taken with."""

    def __init__(self) -> None:
        self.by_step: dict[int, float] = {}

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.by_step[trainer.global_step] = optimizer.param_groups[0]["lr"]


def rates_of(
    folder: Path, tiny_folder: Path, shards: Path, rate: float, epochs: int, resume: Path | None = None
) -> dict[int, float]:
    """Of a run of three steps an epoch, by warm-up and a cosine over all of them."""
    rates = Rates()
    trainer, model, data = make_run(
        folder,
        tiny_folder,
        shards / "train",
        data={"global_batch_size": 8},
        trainer={"max_epochs": epochs, "limit_train_batches": 12, "callbacks": [checkpointer(folder), rates]},
        optimizer=lambda groups: torch.optim.SGD(groups, lr=rate),
    )
    trainer.fit(model, data, ckpt_path=resume)
    return rates.by_step


def test_a_resumed_run_has_its_own_learning_rate_and_length(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    """As a run would have that had them from its start."""
    first = rates_of(tmp_path / "first", tiny_folder, shards, 0.05, 1)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    for name, rate in (("same", 0.05), ("other", 0.001)):
        whole = rates_of(tmp_path / f"{name}-whole", tiny_folder, shards, rate, 2)
        resumed = rates_of(tmp_path / name, tiny_folder, shards, rate, 2, last)
        assert sorted(first) == [0, 1, 2] and sorted(resumed) == [3, 4, 5]
        assert resumed == {step: whole[step] for step in resumed}


@pytest.mark.parametrize(
    ("data", "module", "said"),
    [
        ({"max_length": 900}, {}, r"data\.max_length 1024, not 900"),
        ({"max_tiles": 12}, {}, r"data\.max_tiles 2, not 12"),
        ({}, {"drop_path": 0.3}, r"model\.drop_path 0\.0, not 0\.3"),
        ({}, {"freeze": ["vision_tower"]}, r"model\.freeze \[\], not \['vision_tower'\]"),
        ({}, {"optimizer": lambda groups: torch.optim.AdamW(groups, lr=0.05)}, r"model\.optimizer SGD, not AdamW"),
        (
            {},
            {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9)},
            r"model\.optimizer\.momentum 0, not 0\.9",
        ),
    ],
)
def test_what_decides_a_step_is_kept(
    tmp_path: Path, tiny_folder: Path, shards: Path, undisturbed_step: Path, data: dict, module: dict, said: str
) -> None:
    trainer, model, datamodule = make_run(
        tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 8} | data, **module
    )
    with pytest.raises(InputError, match=said):
        trainer.fit(model, datamodule, ckpt_path=undisturbed_step)


@pytest.fixture(scope="module")
def undisturbed_step(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, shards: Path) -> Path:
    """A checkpoint of a run of one step."""
    folder = tmp_path_factory.mktemp("step")
    trainer, model, data = make_run(
        folder,
        tiny_folder,
        shards / "train",
        data={"global_batch_size": 8},
        trainer={"max_steps": 1, "callbacks": [checkpointer(folder)]},
    )
    trainer.fit(model, data)
    return folder / "checkpoints" / "last.ckpt"
