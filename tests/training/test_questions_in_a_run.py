"""Pairs of one question that stay together: the same losses, weights and cache as pairs alone, and fewer tokens."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpo_lightning.commands import data as commands
from mpo_lightning.data.batch import PairBatch
from mpo_lightning.inference.options import TrainerOptions
from mpo_lightning.models.lora import Lora
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.training.data_order import order_difference
from support.commands import mpo, ranks
from support.question_shards import annotations, shared_rows
from support.runs import logged, make_run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 3 questions with a picture and 2 without: 30 pairs of 2 + 3 answers."""
    folder = tmp_path_factory.mktemp("shared")
    rows = shared_rows(questions=5, answers=3, pairs=6)
    for row in rows:
        row["image"] = row["image"] if row["image"] in ("0.png", "1.png", "2.png") else None
    commands.shard(str(annotations(folder, rows)), str(folder / "shards"), workers=1)
    return folder / "shards" / "train"


METRICS = ("loss", "loss_preference", "loss_quality", "loss_generation", "margin", "delta", "gradient_norm", "pairs")


def trained(
    folder: Path, shared: Path, policy: Path, together: int, **module: Any
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor], list[PairBatch]]:
    """Two steps over all thirty pairs: what was logged, the weights, and the rows."""
    rows: list[PairBatch] = []
    plain = PairForward.forward

    def recorded(self: PairForward, batch: PairBatch, *others: Any) -> Any:
        rows.append(batch)
        return plain(self, batch, *others)

    torch.manual_seed(0)  # of the adapters
    options = {"global_batch_size": 30, "micro_batch_size": 3, "pairs_per_question": together}
    trainer, run, data = make_run(
        folder,
        policy,
        shared,
        data=options | {"cached_reference": module.get("reference_source") == "cache"},
        trainer={"max_epochs": 2},
        **module,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairForward, "forward", recorded)
        trainer.fit(run, data)
    weights = {name: value.clone() for name, value in run.policy.model.state_dict().items()}
    return {name: logged(folder, f"train/{name}") for name in METRICS}, weights, rows


@pytest.mark.parametrize("source", ["model", "adapter"])
@pytest.mark.parametrize("together", [4, 15])
def test_a_step_is_the_same_whether_pairs_share_or_not(
    tmp_path: Path, shared: Path, tiny_folder: Path, together: int, source: str
) -> None:
    options: dict[str, Any] = {"reference_source": source}
    if source == "adapter":
        options["lora"] = Lora(rank=4, dropout=0.0)
    alone, one, single_rows = trained(tmp_path / "1", shared, tiny_folder, 1, **options)
    joined, many, rows = trained(tmp_path / "k", shared, tiny_folder, together, **options)
    for name in METRICS:
        assert joined[name] == pytest.approx(alone[name], rel=2e-5, abs=1e-6), name
        assert len(joined[name]) == 2
    assert all(torch.allclose(many[name], value, rtol=1e-4, atol=1e-6) for name, value in one.items())
    assert sum(batch.pairs for batch in rows) >= 60
    # Six pairs of a question have five answers; four and two of them have up to five and four.
    tokens, single = (sum(len(batch.input_ids) for batch in part) for part in (rows, single_rows))
    assert tokens < (0.35 if together == 15 else 0.5) * single


def test_pairs_share_in_validation_too(tmp_path: Path, shared: Path, tiny_folder: Path) -> None:
    found = []
    for together in (1, 15):
        trainer, run, data = make_run(
            tmp_path, tiny_folder, shared, data={"validation": str(shared), "pairs_per_question": together}
        )
        found.append(trainer.validate(run, data, verbose=False)[0])
    assert found[0].keys() == found[1].keys() and found[0]["val/pairs"] == 30
    assert all(found[1][name] == pytest.approx(value, rel=2e-5, abs=1e-6) for name, value in found[0].items())


def test_the_cached_reference_serves_pairs_together_and_alone(tmp_path: Path, shared: Path, tiny_folder: Path) -> None:
    copied = tmp_path / "shards"
    shutil.copytree(shared, copied)
    cpu = TrainerOptions(accelerator="cpu", devices="1")
    limits: dict[str, Any] = {"precision": "32-true", "max_tiles": 2, "max_length": 1024}
    commands.reference(str(tiny_folder), str(copied), micro_batch_size=2, num_workers=0, trainer=cpu, **limits)
    live, *_ = trained(tmp_path / "live", copied, tiny_folder, 15)
    for together in (1, 4):
        folder = tmp_path / str(together)
        cached, _, rows = trained(folder, copied, tiny_folder, together, reference_source="cache")
        assert all(cached[name] == pytest.approx(live[name], rel=2e-5, abs=1e-6) for name in METRICS)
        assert all(batch.reference is not None for batch in rows)


def test_a_checkpoint_of_single_pairs_is_not_resumed_with_questions() -> None:
    """Checkpoints of earlier versions do not name the setting; their order was that of single pairs."""
    now = {"records": "r", "pairs_per_question": 4}
    assert "data.pairs_per_question 1, not 4" in str(order_difference({"records": "r"}, now, "shards"))
    assert order_difference({"records": "r"}, now | {"pairs_per_question": 1}, "shards") is None


def test_random_pixels_and_drop_path_are_drawn_once_a_question(tmp_path: Path, shared: Path, tiny_folder: Path) -> None:
    options = {"global_batch_size": 30, "micro_batch_size": 1, "pairs_per_question": 15}
    _, _, data = make_run(tmp_path, tiny_folder, shared, data=options)
    batches = list(data.train_dataloader())
    assert len(batches) == 5
    assert all(len(batch.seeds) == len(batch.lengths) == 1 and batch.pairs == 6 for batch in batches)
    assert len({batch.seeds for batch in batches}) == 5


@pytest.mark.slow
def test_two_processes_are_one_with_questions_too(tmp_path: Path, shared: Path, tiny_folder: Path, root: Path) -> None:
    """Eight pairs a step, so that questions are cut where a step is full."""
    for devices in (1, 2):
        overlays = ["recipe/mpo", *(["strategy/ddp_cpu"] if devices > 1 else [])]
        command = [
            "fit",
            *(part for name in overlays for part in ("--config", name)),
            "--trainer.accelerator=cpu",
            f"--trainer.devices={devices}",
            "--trainer.precision=32-true",
            "--trainer.max_epochs=2",
            f"--trainer.default_root_dir={tmp_path / str(devices)}",
            f"--model.policy={tiny_folder}",
            "--model.drop_path=0.1",
            "--model.optimizer=torch.optim.SGD",
            "--model.optimizer.lr=0.05",
            "--model.optimizer.weight_decay=0",
            f"--data.train={shared}",
            "--data.global_batch_size=8",
            "--data.micro_batch_size=1",
            "--data.pairs_per_question=4",
            "--data.num_workers=0",
            "--data.max_length=1024",
        ]
        done = ranks(2, "mpo", *command, cwd=tmp_path) if devices > 1 else mpo(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    for name in (*METRICS, "tokens_chosen"):
        expected = logged(tmp_path / "1", f"train/{name}")
        assert logged(tmp_path / "2", f"train/{name}") == pytest.approx(expected, rel=1e-4, abs=1e-6), name
        assert len(expected) == 8
    assert np.ptp(logged(tmp_path / "1", "train/loss")) > 1e-3
