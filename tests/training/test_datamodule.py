"""Bad records, wrong settings, validation that counts every pair once."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from mpo_lightning.commands import data as commands
from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError
from mpo_lightning.training import Curves, ExportPolicy, ScoreWriter, StepCheckpoint
from support.runs import logged, make_run


@pytest.fixture(scope="module")
def long_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight text pairs, one of them with a very long question."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "images").mkdir()
    rows = [{"question": f"{number}?", "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(8)]
    rows[3]["question"] = "why " * 2000
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "meta.json").write_text(json.dumps({"set": {"root": "images", "annotation": "pairs.jsonl"}}))
    commands.shard(str(folder / "meta.json"), str(folder / "out"), workers=1)
    return folder / "out" / "train"


def test_strict_stops_with_the_record_and_the_way_out(tmp_path: Path, tiny_folder: Path, long_shards: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, long_shards)
    with pytest.raises(
        InputError, match=r"record 'set-00000004' of .*mmpr-000000\.tar: the prompt has .* raise max_length"
    ) as raised:
        trainer.fit(module, data)
    assert "\n" not in str(raised.value)


def test_quarantine_writes_it_down_counts_it_and_goes_on(tmp_path: Path, tiny_folder: Path, long_shards: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, long_shards, data={"on_bad_record": "quarantine"})
    trainer.fit(module, data)
    (row,) = [json.loads(line) for line in (tmp_path / "version_0" / "quarantine-0.jsonl").read_text().splitlines()]
    assert "set-00000004" in row["where"] and "leaves no room" in row["reason"]
    assert sum(logged(tmp_path, "train/set_aside")) == 1 and sum(logged(tmp_path, "train/pairs")) == 7
    assert data.quarantine.count() == 1


def test_a_set_aside_record_is_written_once_and_logged_in_evaluation(
    tmp_path: Path, tiny_folder: Path, long_shards: Path
) -> None:
    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        long_shards,
        data={"on_bad_record": "quarantine", "validation": str(long_shards)},
        trainer={"max_epochs": 3},
    )
    trainer.fit(module, data)
    assert len((tmp_path / "version_0" / "quarantine-0.jsonl").read_text().splitlines()) == data.quarantine.count() == 1
    assert logged(tmp_path, "val/set_aside") == [1, 1, 1] and logged(tmp_path, "val/pairs") == [7, 7, 7]


def test_strict_evaluation_stops_too(tmp_path: Path, tiny_folder: Path, long_shards: Path) -> None:
    for verb in ("validate", "test"):
        trainer, module, data = make_run(tmp_path, tiny_folder, long_shards, data={"validation": str(long_shards)})
        with pytest.raises(InputError, match=r"record 'set-00000004' of .* the prompt has"):
            getattr(trainer, verb)(module, data)


def test_the_gradient_is_the_mean_over_the_pairs_that_are_left(
    tmp_path: Path, tiny_folder: Path, long_shards: Path
) -> None:
    """One step of eight planned pairs, one of them bad, against a step of the seven good ones."""
    folder = tmp_path / "seven"
    folder.mkdir()
    lines = (long_shards.parent.parent / "pairs.jsonl").read_text().splitlines()
    (folder / "pairs.jsonl").write_text("".join(line + "\n" for number, line in enumerate(lines) if number != 3))
    (folder / "meta.json").write_text(json.dumps({"set": {"root": ".", "annotation": "pairs.jsonl"}}))
    commands.shard(str(folder / "meta.json"), str(folder / "out"), workers=1)
    norms = []
    for name, train in (("eight", long_shards), ("good", folder / "out" / "train")):
        trainer, module, data = make_run(
            tmp_path / name, tiny_folder, train, data={"on_bad_record": "quarantine", "global_batch_size": 8},
            trainer={"gradient_clip_val": 0.5}, warmup_ratio=0.0,
        )  # fmt: skip
        trainer.fit(module, data)
        norms.append(logged(tmp_path / name, "train/gradient_norm"))
        weights = module.policy.model.lm_head.weight.detach()
        assert norms[-1][0] > 1  # clipped, so the scale must be right before
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    torch.testing.assert_close(weights, module.policy.model.lm_head.weight)


def test_a_step_without_any_pair_changes_nothing_and_logs_no_loss(
    tmp_path: Path, tiny_folder: Path, long_shards: Path
) -> None:
    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        long_shards,
        data={"on_bad_record": "quarantine", "global_batch_size": 1, "micro_batch_size": 1},
        warmup_ratio=0.0,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1),
    )
    weights = []

    class Look(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, *_: object
        ) -> None:
            weights.append((bool(batch.set_aside), pl_module.policy.model.lm_head.weight.detach().clone()))

    trainer.callbacks.append(Look())
    trainer.fit(module, data)
    (empty,) = [number for number, (aside, _) in enumerate(weights) if aside]
    assert empty > 0
    moved = [not torch.equal(weights[number][1], weights[number - 1][1]) for number in range(1, 8)]
    assert moved == [number != empty for number in range(1, 8)]
    assert [math.isnan(loss) for loss in logged(tmp_path, "train/loss")] == [number == empty for number in range(8)]
    assert logged(tmp_path, "train/set_aside") == [float(n == empty) for n in range(8)]


@pytest.mark.parametrize(("limit", "steps"), [(3, 2), (4, 2), (0.5, 7), (1.0, 14), (1, 1)])
def test_a_limit_of_batches_keeps_steps_whole(
    tmp_path: Path, tiny_folder: Path, shards: Path, limit: float, steps: int
) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"limit_train_batches": limit})
    trainer.fit(module, data)
    assert logged(tmp_path, "train/pairs") == [4] * steps and trainer.global_step == steps


def test_the_trainer_gets_its_settings_back(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"limit_train_batches": 2})
    trainer.fit(module, data)
    assert (trainer.limit_train_batches, trainer.accumulate_grad_batches, trainer.global_step) == (2, 1, 1)


def test_devices_that_would_idle_are_told(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    *_, data = make_run(tmp_path, tiny_folder, shards / "train", data={"global_batch_size": 3, "micro_batch_size": 1})
    data.trainer = SimpleNamespace(
        world_size=8,
        global_rank=0,
        is_global_zero=True,
        log_dir=str(tmp_path),
        default_root_dir=str(tmp_path),
        precision="32-true",
        overfit_batches=0.0,
        limit_train_batches=1.0,
        accumulate_grad_batches=1,
        max_epochs=1,
    )
    with pytest.warns(UserWarning, match="leaves 5 of 8 devices without a question in every step"):
        data.setup("fit")


def test_fast_dev_run_runs_and_overfit_batches_is_refused(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        shards / "train",
        trainer={"fast_dev_run": True, "callbacks": [ExportPolicy(), StepCheckpoint(save_last=True), Curves()]},
    )
    trainer.fit(module, data)
    assert trainer.global_step == 1 and not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("*.safetensors"))
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"overfit_batches": 2})
    with pytest.raises(InputError, match=r"use trainer\.limit_train_batches"):
        trainer.fit(module, data)


def test_cut_answers_are_counted(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        shards / "train",
        data={"max_length": 300, "max_tiles": 12, "on_bad_record": "quarantine"},
    )
    trainer.fit(module, data)
    assert sum(logged(tmp_path, "train/cut_answers")) > 0


def test_a_contradicting_accumulation_is_refused(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"accumulate_grad_batches": 3})
    with pytest.raises(InputError, match=r"needs 2; leave it out"):
        trainer.fit(module, data)


def test_missing_shards_are_asked_for(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train")
    with pytest.raises(InputError, match=r"give --data\.test FOLDER"):
        trainer.test(module, data)
    with pytest.raises(InputError, match=r"give --data\.validation FOLDER"):
        trainer.validate(module, data)
    trainer, module, data = make_run(tmp_path, tiny_folder, shards)
    with pytest.raises(InputError, match="this folder holds splits"):
        trainer.fit(module, data)


def test_validation_is_the_mean_over_pairs_whatever_the_micro_batch(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    values = []
    for size in (1, 3, 8):
        trainer, module, data = make_run(
            tmp_path / str(size),
            tiny_folder,
            shards / "train",
            data={"validation": str(shards / "validation"), "micro_batch_size": size},
        )
        values.append(trainer.validate(module, data, verbose=False)[0])
        assert values[-1]["val/pairs"] == 8
        assert module.shift.count == 0
    for other in values[1:]:
        assert other["val/loss"] == pytest.approx(values[0]["val/loss"], rel=1e-5)
        assert other["val/logps_chosen"] == pytest.approx(values[0]["val/logps_chosen"], rel=1e-5)


def test_test_writes_one_line_a_pair(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    trainer, module, data = make_run(
        tmp_path, tiny_folder, shards / "train", data={"test": str(shards / "validation"), "micro_batch_size": 3},
        trainer={"callbacks": [ScoreWriter(str(tmp_path))]},
    )  # fmt: skip
    trainer.test(module, data, verbose=False)
    rows = [json.loads(line) for line in (tmp_path / "scores-0.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in rows}) == 8
    assert all(row["reward_chosen"] == pytest.approx(0, abs=1e-5) and row["logp_chosen"] < 0 for row in rows)


def test_a_batch_without_trained_tokens_or_with_equal_answers_stops(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    _, _, data = make_run(tmp_path, tiny_folder, shards / "train")
    prompt, answer, tiles = torch.tensor([5, 6]), torch.tensor([7, 8]), torch.empty(0, 3, 112, 112, dtype=torch.uint8)
    good = EncodedPair("k0", prompt, answer, torch.tensor([9]), tiles)
    with pytest.raises(InputError, match="record 'k1': chosen and rejected are the same tokens"):
        data.on_before_batch_transfer(collate([good, EncodedPair("k1", prompt, answer, answer, tiles)], 112), 0)
    with pytest.raises(InputError, match="record 'k2': its rejected answer has no trained token"):
        data.on_before_batch_transfer(collate([good, EncodedPair("k2", prompt, answer, answer[:0], tiles)], 112), 0)
    assert data.on_before_batch_transfer(collate([good], 112), 0).keys == ("k0",)
