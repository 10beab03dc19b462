"""A disk that fills up while a run writes its numbers, samples, curves or export: one sentence, and checkpoints that
were there are whole.

On a small disk in memory where the machine lets a test mount one, and by errors put in by hand everywhere.
"""

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from mpo_lightning.commands import fit as training_cli
from mpo_lightning.errors import InputError
from mpo_lightning.files.disk import disk_problem
from mpo_lightning.runs.checkpoints.io import problem_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "x", "/run/metrics.csv"),
            ("/run/metrics.csv: cannot be written (No space left on device)"),
        ),
        (OSError(errno.EDQUOT, "x"), "a file of the run: cannot be written (Disk quota exceeded)"),
        (OSError(errno.EROFS, "x", "/r"), "/r: cannot be written (Read-only file system)"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "No space left on device",
        ),
        (SafetensorError("Error while serializing: header too large"), None),
        (FileNotFoundError(errno.ENOENT, "x", "/r"), None),
        (ValueError("No space left on device"), None),
    ],
)
def test_errors_of_the_disk_are_told_from_others(error: Exception, words: str | None) -> None:
    problem = disk_problem(error)
    assert problem is None if words is None else words in str(problem)


@pytest.fixture
def fit_arguments(root: Path, shards: Path, tiny_folder: Path) -> list[str]:
    configs = [
        argument
        for name in ("base", "recipe/mpo", "model/tiny", "data/sample")
        for argument in ("--config", str(root / f"configs/{name}.yaml"))
    ]
    return [
        *configs,
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=2",
        f"--model.policy={tiny_folder}",
        f"--data.train={shards / 'train'}",
        f"--data.validation={shards / 'validation'}",
        "--data.num_workers=0",
    ]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_curves_that_cannot_be_written_do_not_end_the_run(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpo_lightning.training.callbacks.curves.Figure.savefig", full)
    with pytest.warns(UserWarning, match="no curves were drawn: .*No space left"):
        training_cli.run(["fit", *fit_arguments, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert list((tmp_path / "run").rglob("export/model.safetensors"))


@pytest.mark.parametrize(
    "place",
    [
        "lightning.fabric.loggers.csv_logs._ExperimentWriter.save",
        "mpo_lightning.training.callbacks.export.save_folder",
        "mpo_lightning.training.callbacks.alarms.Path.open",
    ],
)
def test_whatever_cannot_be_written_is_one_sentence(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    opened = Path.open

    def full_for_samples(path: Path, *arguments: object, **options: object) -> object:
        return full() if path.name == "samples.jsonl" else opened(path, *arguments, **options)

    monkeypatch.setattr(place, full_for_samples if place.endswith("open") else full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left on device") as raised:
        training_cli.run(["fit", *fit_arguments, f"--trainer.default_root_dir={tmp_path / 'run'}"])
    assert "\n" not in str(raised.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """60 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("this machine does not let a test mount a disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_end"])
def test_a_disk_that_fills_up_ends_the_run_with_a_sentence(
    fit_arguments: list[str], small_disk: Path, hook: str
) -> None:
    filler = ["--trainer.callbacks+=support.full_disk.Fill", f"--trainer.callbacks.disk={small_disk}",
              f"--trainer.callbacks.hook={hook}", "--trainer.callbacks.step=1"]  # fmt: skip
    with pytest.raises(InputError, match=r"cannot be written .*No space left on device") as raised:
        training_cli.run(["fit", *fit_arguments, f"--trainer.default_root_dir={small_disk / 'run'}", *filler])
    assert "\n" not in str(raised.value)
    (small_disk / "filler").unlink()
    saved = [path for path in (small_disk / "run").rglob("epoch*.ckpt")]
    assert saved and all(problem_of(path) is None for path in saved)
    training_cli.run(["fit", *fit_arguments, f"--trainer.default_root_dir={small_disk / 'run'}", "--ckpt_path=auto"])
