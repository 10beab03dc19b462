"""Two gloo processes against one, on the same global batches: every logged number, the weights, delta."""

import subprocess
from pathlib import Path

import pytest
import torch

from mpo_lightning.models.internvl.tiny import write_tiny_model
from support.commands import mpo, ranks
from support.mixed_shards import mixed_shards
from support.runs import logged

pytestmark = pytest.mark.slow


def fit(folder: Path, root: Path, devices: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mpo fit` on the mixed shards."""
    overlays = ["base", "recipe/mpo", *(["strategy/ddp_cpu"] if devices > 1 else [])]
    command = [
        "fit",
        *(part for name in overlays for part in ("--config", str(root / f"configs/{name}.yaml"))),
        "--trainer.accelerator=cpu",
        f"--trainer.devices={devices}",
        "--trainer.precision=32-true",
        "--trainer.max_epochs=2",
        f"--model.policy={folder / 'model0'}",
        f"--model.reference={folder / 'model1'}",
        "--model.drop_path=0",
        "--model.gradient_checkpointing=false",
        "--model.optimizer=torch.optim.SGD",
        "--model.optimizer.lr=0.05",
        "--model.optimizer.weight_decay=0",
        f"--data.train={folder / 'data/out/train'}",
        f"--data.validation={folder / 'data/out/train'}",
        "--data.global_batch_size=4",
        "--data.micro_batch_size=1",
        "--data.num_workers=0",
        "--data.max_length=1024",
        *arguments,
    ]
    return ranks(2, "mpo", *command, cwd=folder) if devices > 1 else mpo(*command, cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    mixed_shards(folder / "data", root)
    for seed in (0, 1):
        write_tiny_model(folder / f"model{seed}", seed=seed)
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path, root: Path) -> dict[int, Path]:
    keep = [
        "--trainer.callbacks+=mpo_lightning.training.StepCheckpoint",
        "--trainer.callbacks.every_n_train_steps=5",
        "--trainer.callbacks.save_top_k=-1",
    ]
    for devices in (1, 2):
        done = fit(
            folder,
            root,
            devices,
            f"--trainer.default_root_dir={folder / str(devices)}",
            "--data.on_bad_record=quarantine",
            *keep,
        )
        assert done.returncode == 3, done.stderr
        assert "1 records were skipped" in done.stdout
    return {devices: folder / str(devices) for devices in (1, 2)}


def test_one_process_goes_on_where_two_stopped(runs: dict[int, Path], folder: Path, root: Path) -> None:
    """Killed after five of eight steps, in the middle of the second epoch; the cut of a step and Lightning's counters
    differ.
    """
    (saved,) = runs[2].rglob("epoch=1-step=5.ckpt")
    done = fit(
        folder,
        root,
        1,
        f"--trainer.default_root_dir={folder / 'resumed'}",
        "--data.on_bad_record=quarantine",
        f"--ckpt_path={saved}",
    )
    assert done.returncode == 3, done.stderr
    for name in ("loss", "delta", "tokens_chosen", "pairs"):
        expected = logged(runs[1], f"train/{name}")[5:]
        assert (
            logged(folder / "resumed", f"train/{name}") == pytest.approx(expected, rel=1e-4, abs=1e-6)
            and len(expected) == 3
        )


def test_a_bad_record_of_one_rank_stops_both_with_one_sentence(folder: Path, root: Path) -> None:
    done = fit(folder, root, 2, f"--trainer.default_root_dir={folder / 'strict'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "leaves no room for an answer" in line]
    assert sentence.startswith("mpo: record 'set-00000007' of ")


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "loss_preference",
        "loss_quality",
        "loss_generation",
        "margin",
        "rewards_chosen",
        "logps_rejected",
        "delta",
        "gradient_norm",
        "tokens_chosen",
        "pairs",
    ],
)
def test_every_step_is_the_same(runs: dict[int, Path], name: str) -> None:
    one, two = (logged(runs[devices], f"train/{name}") for devices in (1, 2))
    assert len(one) == len(two) == 8  # two epochs of 4 + 4 + 4 + 2 planned pairs, one of them set aside
    assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    if name == "pairs":
        assert sum(one[:4]) == sum(one[4:]) == 13 and one[3] <= 2
    if name == "delta":
        assert len(set(one)) == 8


@pytest.mark.parametrize("name", ["loss", "margin", "accuracy", "pairs", "delta"])
def test_validation_counts_every_pair_once(runs: dict[int, Path], name: str) -> None:
    one, two = (logged(runs[devices], f"val/{name}") for devices in (1, 2))
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-4, abs=1e-6)
    if name == "pairs":
        assert one == [13, 13]


def test_weights_and_delta_of_the_checkpoints_are_the_same(runs: dict[int, Path]) -> None:
    one, two = (torch.load(next(runs[devices].rglob("last.ckpt")), weights_only=True) for devices in (1, 2))
    assert one["reward_shift"]["count"] == two["reward_shift"]["count"] == 2 * 26
    assert two["reward_shift"]["sum"] == pytest.approx(one["reward_shift"]["sum"], rel=1e-4)
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-4, atol=1e-6)


def test_the_bad_record_is_written_down_once_by_each_rank_that_met_it(runs: dict[int, Path]) -> None:
    for folder in runs.values():
        lines = [line for path in folder.rglob("quarantine-*.jsonl") for line in path.read_text().splitlines()]
        assert 1 <= len(lines) <= 2 and all("'set-00000007'" in line and "leaves no room" in line for line in lines)


def test_both_export_and_leave_a_config_and_a_picture(runs: dict[int, Path]) -> None:
    for folder in runs.values():
        run = folder / "version_0"
        assert all(
            (run / name).exists()
            for name in ("config.yaml", "metrics.csv", "curves.png", "export/model.safetensors", "export/README.md")
        )
