"""A step whose loss or gradient is no number, or explodes, stops the run before it is taken, on every rank, and its
records are named.
"""

import json
from pathlib import Path

import lightning as L
import pytest
import torch

from mpo_lightning.data.shards.index import open_index
from mpo_lightning.errors import InputError
from mpo_lightning.training import StepCheckpoint
from mpo_lightning.training.loss_limit import LossLimit, LossWatch
from support.commands import ranks
from support.long_runs import fit_words
from support.runs import make_run


def test_a_loss_that_is_no_number_stops_before_the_step_and_names_the_records(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    trainer, model, data = make_run(tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 8})
    losses, poisoned = model.losses, []

    def poison(batch, training):
        terms, policy = losses(batch, training)
        if trainer.global_step == 2 and not poisoned:
            poisoned.append(batch.keys[1])
            terms.total[1] = float("nan")
        return terms, policy

    model.losses = poison
    before: dict[int, torch.Tensor] = {}
    model.on_train_batch_start, start = (
        (lambda *args: (before.update({trainer.global_step: weight(model)}), start(*args))[1]),
        model.on_train_batch_start,
    )
    with pytest.raises(
        InputError,
        match=r"the loss is nan in step 2 \(record '.*'; the step's records are in .*\) and the step was not taken",
    ):
        trainer.fit(model, data)
    report = json.loads((tmp_path / "version_0" / "nonfinite-step-2.json").read_text())
    assert report["bad"] == poisoned and len(report["records"]) == 8
    index = open_index(shards / "train")
    shard_of = {index.key(record): index.place(int(index.records[record]["shard"])) for record in range(len(index))}
    assert all(row["shard"] == shard_of[row["key"]] for row in report["records"])
    assert [row["key"] for row in report["records"] if row["loss"] == "nan"] == poisoned
    assert torch.equal(before[2], weight(model)) and not torch.equal(before[1], before[2])


def weight(model) -> torch.Tensor:
    return model.policy.model.lm_head.weight.detach().clone()


def test_a_gradient_that_is_no_number_stops_too(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, model, data = make_run(tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 8})
    trainer.strategy.connect(model)
    model.configure_model()
    model.policy.model.lm_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(InputError, match=r"the gradient norm is (inf|nan) in step 0 \(no record stands out"):
        trainer.fit(model, data)


def taken(losses: list[float], limit: LossLimit, watch: LossWatch | None = None) -> list[bool]:
    """At which losses a run would stop."""
    watch = watch or LossWatch(limit)
    return [watch.take(loss) is not None for loss in losses]


def test_a_loss_explodes_when_it_is_far_above_its_median_for_steps_in_a_row() -> None:
    limit = LossLimit(factor=4, steps=3, window=3)
    # The median of 2, 3, 4 is 3, so the limit is 12: three in a row above it stop, at the third.
    assert taken([2, 3, 4, 12.1, 13, 12.5], limit) == [False] * 5 + [True]
    assert taken([2, 3, 4, 12, 13, 12.5], limit) == [False] * 6  # 12 itself is not above
    assert taken([2, 3, 4, 50, 50, 3, 50, 50], limit) == [False] * 8  # never three in a row
    assert taken([2, 3, 4, 8, 9, 10, 30, 35, 36], limit) == [False] * 9  # it rises, but with its median: 9, so up to 36
    assert taken([0.01, 0.01, 3, 3.9, 3.9, 3.9], limit) == [False] * 6  # a small loss counts as 1
    assert taken([-5, -5, -5, 4.1, 4.1, 4.1], limit) == [False] * 5 + [True]
    assert taken([2, 1e9, 1e9, 1e9], LossLimit(factor=None)) == [False] * 4


def test_the_watch_goes_on_through_a_checkpoint() -> None:
    limit = LossLimit(factor=4, steps=3, window=3)
    losses = [2.0, 3.0, 4.0, 40.0, 13.0, 12.5, 12.5]
    whole = taken(losses, limit)
    for cut in range(1, len(losses)):
        before, after = LossWatch(limit), LossWatch(limit)
        first = taken(losses[:cut], limit, before)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert first + taken(losses[cut:], limit, after) == whole


@pytest.mark.parametrize("values", [{"factor": 1.0}, {"factor": float("nan")}, {"steps": 0}, {"window": 0}])
def test_a_limit_that_makes_no_sense_is_refused(values: dict) -> None:
    with pytest.raises(InputError, match=r"model\.loss_limit needs a factor above 1"):
        LossLimit(**values)


def explode(folder: Path, tiny_folder: Path, shards: Path, steps: int = -1, resume: Path | None = None) -> None:
    checkpoints = StepCheckpoint(folder / "checkpoints", every_n_train_steps=1, save_top_k=-1)
    trainer, model, data = make_run(
        folder,
        tiny_folder,
        shards / "train",
        data={"global_batch_size": 4},
        trainer={"callbacks": [checkpoints], "max_steps": steps},
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.3, maximize=True),
        warmup_ratio=0.0,
        loss_limit=LossLimit(factor=2, steps=2),
    )
    # Uphill, so that the loss rises without chaos. The rate must not depend on where the run is to end.
    model._total_steps = lambda: 1000
    trainer.fit(model, data, ckpt_path=resume)


def test_a_loss_that_explodes_stops_the_run_and_a_resumed_one_at_the_same_step(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    with pytest.raises(
        InputError,
        match=r"the loss explodes: it is .* for 2 steps in a row in step \d+ \(record '.*and the step was not",
    ):
        explode(tmp_path / "whole", tiny_folder, shards)
    (path,) = (tmp_path / "whole" / "version_0").glob("exploding-step-*.json")
    report = json.loads(path.read_text())
    losses = [float(row["loss"]) for row in report["records"]]
    assert len(losses) == 4 and str(shards / "train") in report["records"][0]["shard"]
    assert f"it is {sum(losses) / 4:.3g}"[:7] in report["what"]
    step = report["step"]
    assert step >= 2
    saved = {int(file.stem.split("step=")[1]): file for file in (tmp_path / "whole" / "checkpoints").glob("*.ckpt")}
    assert max(saved) == step  # after the one before; the exploding step itself was not taken
    # Stopped between the first step above the limit and the second.
    with pytest.raises(InputError, match="the loss explodes"):
        explode(tmp_path / "again", tiny_folder, shards, resume=saved[step])
    (again,) = (tmp_path / "again" / "version_0").glob("exploding-step-*.json")
    assert json.loads(again.read_text()) == report


class Healthy(L.Callback):
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.watch = pl_module._step.watch.state_dict()


def test_a_run_that_works_is_not_stopped(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    healthy = Healthy()
    trainer, model, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"callbacks": [healthy]})
    trainer.fit(model, data)
    assert len(healthy.watch["sound"]) == trainer.global_step == 14 and healthy.watch["above"] == 0


@pytest.mark.slow
def test_two_processes_stop_together_at_a_loss_that_explodes(
    tmp_path: Path, root: Path, shards: Path, tiny_folder: Path
) -> None:
    more = (
        "--model.optimizer.lr=1",
        "--model.warmup_ratio=0",
        "--model.loss_limit.factor=3",
        "--model.loss_limit.steps=2",
    )
    done = ranks(2, "mpo", *fit_words(tmp_path / "run", root, shards, tiny_folder, "ddp_cpu", *more))
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stderr.count("the loss explodes") == 1 and "Traceback" not in done.stderr
    (report,) = (tmp_path / "run").rglob("exploding-step-*.json")
    assert len(json.loads(report.read_text())["records"]) == 4  # of both
