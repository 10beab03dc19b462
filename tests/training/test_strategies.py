"""Whole models, pieces of them, and one process: the same numbers on the same global batches, with text-only rows, a
record set aside on one rank, a partial last step, clipping, and every kind of reference. And checkpoints of sharded
runs.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from mpo_lightning.commands import data as commands
from mpo_lightning.commands.model import convert, export
from mpo_lightning.errors import InputError
from mpo_lightning.inference.options import TrainerOptions
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.models.loading import load_model
from mpo_lightning.runs.checkpoints.choice import find_checkpoint
from mpo_lightning.runs.checkpoints.io import problem_of
from mpo_lightning.runs.checkpoints.sharded import load_sharded
from support.commands import mpo, ranks
from support.golden_now import CHECKPOINTS
from support.mixed_shards import mixed_shards
from support.runs import logged
from support.strategies import MODELS, VARIANTS, run

pytestmark = pytest.mark.slow

NAMES = (
    "loss",
    "loss_preference",
    "loss_quality",
    "loss_generation",
    "margin",
    "logps_rejected",
    "delta",
    "gradient_norm",
    "pairs",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("strategies")
    shutil.copytree(mixed_shards(folder / "data", root).parent, folder / "shards")
    for seed in (0, 1):
        write_tiny_model(folder / f"model{seed}", seed=seed)
    for name in set(MODELS.values()):
        convert(str(CHECKPOINTS / name), str(folder / name), system_message="none")
    with pytest.raises(SystemExit, match="3"):
        commands.reference(
            str(folder / "model1"),
            str(folder / "shards/train"),
            precision="32-true",
            trainer=TrainerOptions("cpu", "1"),
            max_tiles=2,
            max_length=1024,
            on_bad="quarantine",
            num_workers=0,
        )
    return folder


def trained(processes: int, folder: Path, *variants: str) -> None:
    done = ranks(processes, "support.strategies", folder, *variants)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def two_processes(folder: Path) -> Path:
    """Every variant by two processes."""
    assert len(list((folder / "shards/train").glob("*.tar"))) == 1  # fewer than processes
    trained(2, folder, *VARIANTS)
    return folder / "2"


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_are_one(folder: Path, two_processes: Path, variant: str) -> None:
    run(folder, variant, devices=1)
    one, two = folder / "1" / variant, two_processes / variant
    tolerance = {"rel": 2e-2, "abs": 5e-3} if variant == "fsdp2-bf16" else {"rel": 1e-4, "abs": 1e-6}
    for name in NAMES:
        expected = logged(one, f"train/{name}")
        assert logged(two, f"train/{name}") == pytest.approx(expected, **tolerance), name
        assert len(expected) == 4
    assert len(set(logged(one, "train/loss"))) == 4 and sum(logged(two, "train/pairs")) == 13
    assert sum(logged(two, "train/set_aside")) == 1
    for name in ("loss", "margin", "pairs"):
        assert logged(two, f"val/{name}") == pytest.approx(logged(one, f"val/{name}"), **tolerance)
    if variant != "fsdp2-bf16":
        samples = [(folder / "version_0" / "samples.jsonl").read_text() for folder in (one, two)]
        assert samples[0] == samples[1] and samples[0].count("\n") == 4


def test_four_processes_as_two_groups_of_two_are_one(folder: Path) -> None:
    trained(4, folder, "hybrid")
    run(folder, "hybrid", devices=1)
    for name in NAMES:
        expected = logged(folder / "1" / "hybrid", f"train/{name}")
        assert logged(folder / "4" / "hybrid", f"train/{name}") == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sharded_run_goes_on_on_any_number_of_devices(
    folder: Path, two_processes: Path, tmp_path: Path, processes: int
) -> None:
    steps = (0, 2) if processes == 2 else (2,)
    saved = [next((two_processes / "fsdp2/checkpoints").glob(f"epoch=*-step={step}.ckpt")) for step in steps]
    for name in ("model0", "model1", "shards"):
        (tmp_path / name).symlink_to(folder / name)
    trained(processes, tmp_path, *(f"fsdp2@{path}" for path in saved))
    for version, step in enumerate(steps):
        # Before the first step the optimizer has no state, and none may be made by saving it.
        rest = torch.load(saved[version] / "meta.pt", weights_only=True)
        assert bool(rest["optimizer_options"]) == (step == 0)
        for name in NAMES:
            expected = logged(two_processes / "fsdp2", f"train/{name}")[step:]
            found = logged(tmp_path / f"{processes}" / "fsdp2", f"train/{name}", version)
            assert found == (expected if processes == 2 else pytest.approx(expected, rel=1e-4, abs=1e-6)), name


def test_an_optimizer_without_a_state_goes_on_with_its_learning_rate(
    folder: Path, two_processes: Path, tmp_path: Path
) -> None:
    """SGD never has one; its rate warms up and falls."""
    saved = next((two_processes / "fsdp2-shared-features/checkpoints").glob("epoch=*-step=2.ckpt"))
    (options,) = torch.load(saved / "meta.pt", weights_only=True)["optimizer_options"].values()
    assert 0 < options[0]["lr"] < options[0]["initial_lr"] == 0.05
    for name in ("model0", "model1", "shards"):
        (tmp_path / name).symlink_to(folder / name)
    trained(2, tmp_path, f"fsdp2-shared-features@{saved}")
    for name in NAMES:
        expected = logged(two_processes / "fsdp2-shared-features", f"train/{name}")[2:]
        assert logged(tmp_path / "2" / "fsdp2-shared-features", f"train/{name}") == expected


@pytest.mark.parametrize("variant", ["fsdp2-adapters", "fsdp2-moe-adapters"])
def test_merged_adapters_of_a_sharded_run_are_those_of_one_process(
    folder: Path, two_processes: Path, variant: str
) -> None:
    run(folder, variant, devices=1)
    ours, theirs = (load_model(path / variant / "export").state_dict() for path in (two_processes, folder / "1"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6)


@pytest.fixture
def sharded(two_processes: Path, tmp_path: Path) -> Path:
    """A copy of the run's last checkpoint."""
    (saved,) = (path for path in (two_processes / "fsdp2/checkpoints").glob("epoch=*-step=4.ckpt"))
    shutil.copytree(saved, tmp_path / saved.name)
    return tmp_path / saved.name


def test_a_sharded_checkpoint_is_a_folder_with_a_manifest(sharded: Path) -> None:
    assert {path.name for path in sharded.iterdir()} == {
        "__0_0.distcp",
        "__1_0.distcp",
        ".metadata",
        "meta.pt",
        "manifest.json",
    }
    listed = json.loads((sharded / "manifest.json").read_text())["files"]
    assert set(listed) == {path.name for path in sharded.iterdir()} - {"manifest.json"}
    assert problem_of(sharded) is None
    # Each rank wrote about half; the reference is in no file.
    sizes = [listed[f"__{rank}_0.distcp"]["bytes"] for rank in (0, 1)]
    assert max(sizes) < 1.3 * min(sizes)
    assert b"reference" not in (sharded / ".metadata").read_bytes()


def test_its_export_is_what_one_process_would_have_trained(folder: Path, sharded: Path, tmp_path: Path) -> None:
    run(folder, "fsdp2", devices=1)
    (whole,) = (folder / "1/fsdp2/checkpoints").glob("epoch=*-step=4.ckpt")
    for checkpoint, name in ((sharded, "sharded"), (whole, "whole")):
        export(str(checkpoint), str(tmp_path / name), str(folder / "model0"))
    ours, theirs = (load_model(tmp_path / name).state_dict() for name in ("sharded", "whole"))
    start = load_model(folder / "model0").state_dict()
    moved = 0
    for name, value in theirs.items():
        # AdamW's step is lr * sign where gradients are tiny, whose sign is rounding.
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=2e-3)
        moved += not torch.equal(start[name], ours[name])
    assert moved > 100


def test_the_export_stops_at_another_model(sharded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tiny_model(other)
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 128
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"do not fit|cannot be loaded|does not fit"):
        export(str(sharded), str(tmp_path / "out"), str(other))


@pytest.mark.parametrize("name", ["__0_0.distcp", "__1_0.distcp", ".metadata", "meta.pt"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damage_is_found(sharded: Path, name: str, damage: str) -> None:
    path = sharded / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-1])
    assert problem_of(sharded) is not None
    with pytest.raises(InputError, match="damaged or cut short"):
        find_checkpoint(str(sharded), sharded.parent)
    with pytest.raises(InputError, match="but no intact checkpoint"):
        find_checkpoint("auto", sharded.parent)


def test_auto_finds_a_sharded_one_and_passes_over_one_without_a_manifest(
    sharded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = sharded.with_name("later.ckpt")
    shutil.copytree(sharded, later)
    (later / "manifest.json").unlink()
    os.utime(later, (2e9, 2e9))
    with caplog.at_level("INFO"):
        assert find_checkpoint("auto", sharded.parent) == str(sharded)
    assert f"skipped {later}: it has no manifest" in caplog.text


def test_nothing_in_the_table_of_pieces_can_run(sharded: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "harm"),)

    (sharded / ".metadata").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match=r"names posix.mkdir, which is not allowed"):
        load_sharded({"state_dict": {"policy.model.lm_head.weight": torch.zeros(1)}}, sharded)
    assert not (tmp_path / "harm").exists()


def test_the_table_of_pieces_does_not_lead_elsewhere(sharded: Path) -> None:
    with (sharded / ".metadata").open("rb") as file:
        table = pickle.load(file)  # noqa: S301
    for place in table.storage_data.values():
        place.relative_path = f"../elsewhere/{place.relative_path}"
    (sharded / ".metadata").write_bytes(pickle.dumps(table))
    with pytest.raises(InputError, match=r"names ../elsewhere/__\d_0.distcp, which is elsewhere"):
        load_sharded({"state_dict": {"policy.model.lm_head.weight": torch.zeros(1)}}, sharded)


def test_a_sharded_checkpoint_does_not_resume_a_run_on_one_device(folder: Path, sharded: Path, root: Path) -> None:
    command = [
        "fit",
        "--config",
        str(root / "configs/base.yaml"),
        "--config",
        str(root / "configs/recipe/mpo.yaml"),
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        f"--model.policy={folder / 'model0'}",
        f"--data.train={folder / 'shards/train'}",
        f"--trainer.default_root_dir={sharded.parent}",
        f"--ckpt_path={sharded}",
    ]
    done = mpo(*command)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "belongs to a sharded run; resume with configs/strategy/fsdp2.yaml" in done.stderr
