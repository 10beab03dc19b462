"""Checkpoints are whole or not there, found again by themselves, and nothing is silently started over."""

import contextlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from mpo_lightning.commands.model import export
from mpo_lightning.errors import InputError
from mpo_lightning.models.loading import load_model
from mpo_lightning.models.lora import Lora
from mpo_lightning.runs.checkpoints.choice import CHOSEN, find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO, manifest_of, problem_of
from mpo_lightning.training import StepCheckpoint
from support.commands import ranks
from support.runs import logged, make_run


def fit(folder: Path, tiny_folder: Path, shards: Path, **module: object) -> Path:
    """Seven steps of eight pairs; a checkpoint every second one and at the end, all kept."""
    callback = StepCheckpoint(folder / "checkpoints", every_n_train_steps=2, save_top_k=-1, save_last="link")
    trainer, model, data = make_run(
        folder,
        tiny_folder,
        shards / "train",
        data={"global_batch_size": 8},
        trainer={"callbacks": [callback], "plugins": [ManifestCheckpointIO()]},
        **module,
    )
    trainer.fit(model, data)
    return folder


def at_step(folder: Path, step: int) -> Path:
    (path,) = (folder / "checkpoints").glob(f"epoch=*-step={step}.ckpt")
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, shards: Path) -> Path:
    return fit(tmp_path_factory.mktemp("run"), tiny_folder, shards)


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "run", symlinks=True)
    for path in (tmp_path / "run").rglob("*.ckpt"):
        os.utime(path, ns=(path.stat().st_mtime_ns,) * 2)
    return tmp_path / "run"


def test_every_checkpoint_has_a_manifest_that_fits(run_folder: Path) -> None:
    files = sorted((run_folder / "checkpoints").glob("epoch*.ckpt"))
    assert [int(path.stem.split("step=")[1]) for path in files] == [0, 2, 4, 6, 7]
    for path in files:
        assert problem_of(path) is None
        assert json.loads(manifest_of(path).read_text())["bytes"] == path.stat().st_size
        assert torch.load(path, weights_only=True)["global_step"] == int(path.stem.split("step=")[1])
    assert not list(run_folder.rglob("*.partial"))


def test_auto_starts_afresh_only_where_nothing_is(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert find_checkpoint("auto", tmp_path / "nothing") is None
    assert find_checkpoint("auto", run_folder) == str(at_step(run_folder, 7))
    (tmp_path / "begun" / "version_0").mkdir(parents=True)
    (tmp_path / "begun" / "version_0" / "metrics.csv").touch()
    with pytest.raises(InputError, match=r"holds a run \(version_0/metrics.csv\) but no intact checkpoint"):
        find_checkpoint("auto", tmp_path / "begun")


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv",
        "curves.png",
        "samples.jsonl",
        "alarms.jsonl",
        "export/model.safetensors",
        ".export.host-12.partial/x",
        "quarantine-3.jsonl",
        "nonfinite-step-2.json",
        "exploding-step-2.json",
        "scores-0.jsonl",
        "responses.pope.jsonl",
        "checkpoints/x.ckpt.json",
        "checkpoints/.last.ckpt.partial",
        "checkpoints/.last.ckpt.old/meta.pt",
        "checkpoints/.epoch=0-step=4.ckpt.partial/x",
        "wandb/run-1/x",
        "tensorboard/version_0/events.out.tfevents.1.host.2.0",
    ],
)
def test_whatever_a_run_leaves_of_its_steps_stops_auto(tmp_path: Path, name: str) -> None:
    """Somebody deleted the checkpoints, not what else tells of steps."""
    path = tmp_path / "run" / "version_0" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 0}\n{"step": 4}\n' if name == "samples.jsonl" else "x" * 1000)
    with pytest.raises(InputError, match=r"run holds a run \(version_0/.*\) but no intact checkpoint"):
        find_checkpoint("auto", tmp_path / "run")


def test_what_a_run_leaves_before_its_first_step_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "version_0"
    (folder / "checkpoints" / ".epoch=0-step=0.ckpt.partial").mkdir(parents=True)
    (folder / "checkpoints" / ".epoch=0-step=0.ckpt.partial" / "__0_0.distcp").write_bytes(b"cut")
    for name in ("config.yaml", "hparams.yaml"):
        (folder / name).write_text("seed_everything: 0\n")
    (folder / "samples.jsonl").write_text('{"step": 0, "answer": "a"}\n{"step": 0, "answer": "b"}\n')
    writer = SummaryWriter(str(folder))
    writer.close()
    assert list(folder.glob("events.out.tfevents.*"))
    assert find_checkpoint("auto", tmp_path / "run") is None
    writer = SummaryWriter(str(folder))
    for number in range(10):
        writer.add_scalar(f"train/metric{number}", 1.0, 1)
    writer.close()
    with pytest.raises(InputError, match=r"holds a run \(version_0/events"):
        find_checkpoint("auto", tmp_path / "run")


def test_checkpoints_in_a_folder_of_their_own_are_found(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "checkpoints", tmp_path / "elsewhere", symlinks=True)
    (tmp_path / "run").mkdir()
    (newest,) = (tmp_path / "elsewhere").glob("epoch=*-step=7.ckpt")
    assert find_checkpoint("auto", tmp_path / "run", [tmp_path / "elsewhere"]) == str(newest)
    for path in (tmp_path / "elsewhere").glob("*.ckpt"):
        path.unlink()
    with pytest.raises(InputError, match=r"elsewhere holds a run \(.*json\) but no intact checkpoint"):
        find_checkpoint("auto", tmp_path / "run", [tmp_path / "elsewhere"])


def test_auto_takes_the_latest_step_and_not_the_latest_file(copied: Path) -> None:
    for age, step in enumerate((7, 0, 6, 4, 2)):
        os.utime(at_step(copied, step), (1_000_000_000 + age,) * 2)
    assert find_checkpoint("auto", copied) == str(at_step(copied, 7))
    at_step(copied, 7).unlink()
    assert find_checkpoint("auto", copied) == str(at_step(copied, 6))
    # Of one step the one of the latest run.
    again = copied / "version_1" / at_step(copied, 6).name
    again.parent.mkdir()
    for path in (at_step(copied, 6), manifest_of(at_step(copied, 6))):
        shutil.copyfile(path, again.parent / path.name)
    os.utime(again, (2_000_000_000,) * 2)
    assert find_checkpoint("auto", copied) == str(again)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"SLURM_PROCID": "3"},
        {"NODE_RANK": "1"},
        {"RANK": "1", "LOCAL_RANK": "0"},
        {"NODE_RANK": "1", "LOCAL_RANK": "0"},
        {"SLURM_PROCID": "0", "LOCAL_RANK": "1"},  # an interactive shell's, and Lightning's
    ],
)
def test_only_the_first_rank_reads_checkpoints(
    copied: Path, monkeypatch: pytest.MonkeyPatch, environment: dict
) -> None:
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK", CHOSEN):
        monkeypatch.delenv(name, raising=False)
    at_step(copied, 7).write_bytes(b"damaged")
    assert find_checkpoint("auto", copied) == str(at_step(copied, 6))
    monkeypatch.delenv(CHOSEN)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mpo_lightning.runs.checkpoints.io.hashlib", None)
    for name in ("auto", "last", str(at_step(copied, 4))):
        assert find_checkpoint(name, copied) is not None  # rank 0 says which
        monkeypatch.delenv(CHOSEN, raising=False)


def test_a_link_to_no_checkpoint_is_named_though_there_is_an_older_one(tmp_path: Path) -> None:
    """`save_last: link`, killed after the checkpoint that it names was removed."""
    for version in ("version_0", "version_1"):
        (tmp_path / version).mkdir()
    (tmp_path / "version_0" / "last.ckpt").touch()
    os.utime(tmp_path / "version_0" / "last.ckpt", (1, 1))
    (tmp_path / "version_1" / "last.ckpt").symlink_to("epoch=0-step=4.ckpt")
    with pytest.raises(
        InputError,
        match=(
            r"version_1/last\.ckpt is a link to a checkpoint that is not there; "
            r"--ckpt_path auto"
        ),
    ):
        find_checkpoint("last", tmp_path)


def test_a_pipe_in_a_manifests_place_is_not_waited_for(copied: Path) -> None:
    manifest_of(at_step(copied, 7)).unlink()
    os.mkfifo(manifest_of(at_step(copied, 7)))
    assert find_checkpoint("auto", copied) == str(at_step(copied, 6))


def test_beside_a_run_that_writes_nothing_is_put_in_order(copied: Path) -> None:
    newest = at_step(copied, 7)
    left = newest.with_name(f".{newest.name}.partial")
    newest.rename(left)
    assert find_checkpoint("auto", copied, fit=False) == str(at_step(copied, 6)) and left.exists()
    assert find_checkpoint("auto", copied) == str(newest) and not left.exists()


def test_another_rank_takes_what_its_starter_found_and_nobody_elses(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = str(at_step(run_folder, 7))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(CHOSEN, f"{os.getppid()}:given.ckpt")
    assert find_checkpoint("auto", run_folder) == "given.ckpt"
    monkeypatch.setenv(CHOSEN, f"{os.getppid()}:")
    assert find_checkpoint("auto", run_folder) is None
    # Left over from another run in an outer process.
    monkeypatch.setenv(CHOSEN, f"{os.getppid() + 1}:given.ckpt")
    assert find_checkpoint("auto", run_folder) == newest


def test_auto_passes_over_what_is_damaged_and_says_so(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {int(path.stem.split("step=")[1]): path for path in (copied / "checkpoints").glob("epoch*.ckpt")}
    with files[7].open("r+b") as file:
        file.truncate(1000)
    flipped = bytearray(files[6].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    state = files[6].stat()
    files[6].write_bytes(flipped)
    os.utime(files[6], ns=(state.st_atime_ns, state.st_mtime_ns))
    manifest_of(files[4]).unlink()
    with caplog.at_level("INFO"):
        assert find_checkpoint("auto", copied) == str(files[2])
    for words in ("has 1,000 bytes and its manifest says", "differ from its manifest's checksum", "it has no manifest"):
        assert words in caplog.text
    with pytest.raises(InputError, match=r"damaged or cut short \(the bytes of .* differ"):
        find_checkpoint(str(files[6]), copied)
    files[2].unlink()
    assert find_checkpoint("auto", copied) == str(files[0])
    files[0].unlink()
    with pytest.raises(InputError, match="but no intact checkpoint"):
        find_checkpoint("auto", copied)


def test_a_full_disk_stops_with_a_sentence_and_the_last_one_stays(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = at_step(copied, 7)
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpo_lightning.runs.checkpoints.io.os.fsync", full)
    io = ManifestCheckpointIO()
    with pytest.raises(
        InputError,
        match=(
            r"cannot be written .*No space left on device.*resume from them with "
            r"--ckpt_path auto"
        ),
    ):
        io.save_checkpoint({"state": torch.ones(5)}, target)
    with io.deferring() as problems:
        io.save_checkpoint({"state": torch.ones(5)}, target)
    assert len(problems) == 1 and "No space left on device" in problems[0]
    with pytest.raises(InputError):
        io.save_checkpoint({"state": torch.ones(5)}, target)
    assert target.read_bytes() == before and problem_of(target) is None
    assert not list(copied.rglob("*.partial"))


def test_nothing_in_a_checkpoint_can_run_code(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"state_dict": {}, "reward_shift": Harm(), "pytorch-lightning_version": "2"}, tmp_path / "bad.ckpt")
    with pytest.raises(InputError):
        find_checkpoint(str(tmp_path / "bad.ckpt"), tmp_path)
    with pytest.raises(Exception, match="Weights only load failed"):
        ManifestCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("lora", [None, Lora(rank=4)], ids=["all weights", "adapters"])
def test_an_exported_checkpoint_is_the_policy_of_its_step(
    tmp_path: Path, tiny_folder: Path, shards: Path, lora: Lora | None
) -> None:
    options = {"lora": lora, "reference_source": "adapter"} if lora else {}
    run = fit(tmp_path / "run", tiny_folder, shards, **options)
    for step in (2, 7):
        export(str(at_step(run, step)), str(tmp_path / f"out{step}"))
    one, other, start = (
        load_model(folder).state_dict() for folder in (tmp_path / "out2", tmp_path / "out7", tiny_folder)
    )
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(one[name], other[name]) and not torch.equal(one[name], start[name])
    saved = torch.load(at_step(run, 7), weights_only=True)["state_dict"]
    if lora:
        base = f"policy.{name.removesuffix('.weight')}".replace("policy.", "policy.model.", 1)
        up, down = (saved[f"{base}.lora_{part}.default.weight"] for part in ("B", "A"))
        torch.testing.assert_close(other[name], start[name] + 2 * up @ down, rtol=0, atol=1e-6)
    else:
        assert torch.equal(other[name], saved[f"policy.model.{name}"])
    with pytest.raises(InputError, match="no such checkpoint"):
        export(str(tmp_path / "none.ckpt"), str(tmp_path / "out"))


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_step_is_gone_on_with(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    whole = fit(tmp_path / "whole", tiny_folder, shards)
    start = at_step(whole, 0)
    trainer, model, data = make_run(tmp_path / "again", tiny_folder, shards / "train", data={"global_batch_size": 8})
    trainer.fit(model, data, ckpt_path=start)
    for name in ("train/loss", "train/delta"):
        assert logged(tmp_path / "again", name) == logged(tmp_path / "whole", name)


def test_links_to_folders_are_followed(copied: Path, tmp_path: Path) -> None:
    """Clusters put a run's large files on another disk; a link in a circle is no endless search."""
    (tmp_path / "scratch").mkdir()
    (copied / "checkpoints").rename(tmp_path / "scratch" / "checkpoints")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "version_0").symlink_to(tmp_path / "scratch")
    (tmp_path / "scratch" / "again").symlink_to(tmp_path / "linked")
    found = find_checkpoint("auto", tmp_path / "linked")
    assert found is not None and Path(found).name.endswith("step=7.ckpt")
    assert find_checkpoint("last", tmp_path / "linked") is not None
    for path in (tmp_path / "scratch" / "checkpoints").glob("*.ckpt"):
        path.unlink()
    with pytest.raises(InputError, match=r"holds a run \(version_0/checkpoints/.*json\)"):
        find_checkpoint("auto", tmp_path / "linked")


def test_a_checkpoint_of_weights_alone_is_not_gone_on_from(
    copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(at_step(copied, 7), weights_only=True)
    del content["optimizer_states"]
    light = copied / "checkpoints" / "light-step=8.ckpt"
    ManifestCheckpointIO().save_checkpoint(content | {"global_step": 8}, light)
    with caplog.at_level("INFO"):
        assert find_checkpoint("auto", copied) == str(at_step(copied, 7))
    assert "skipped" in caplog.text and "only weights" in caplog.text
    with pytest.raises(InputError, match=r"light-step=8\.ckpt: it holds only weights"):
        find_checkpoint(str(light), copied)
    assert find_checkpoint(str(light), copied, fit=False) == str(light)
    last = copied / "checkpoints" / "last.ckpt"
    last.unlink()
    last.symlink_to(light.name)
    with pytest.raises(InputError, match="it holds only weights"):
        find_checkpoint("last", copied)


def test_auto_finds_or_stops_where_nothing_is_trained(run_folder: Path, tmp_path: Path) -> None:
    assert find_checkpoint("auto", run_folder, fit=False) == str(at_step(run_folder, 7))
    with pytest.raises(InputError, match=r"no checkpoint below .*nothing; leave it out to measure"):
        find_checkpoint("auto", tmp_path / "nothing", fit=False)


def test_what_a_killed_write_left_is_removed_when_the_run_goes_on(copied: Path) -> None:
    left = [
        copied / "checkpoints" / ".epoch=0-step=9.ckpt.partial",
        copied / "checkpoints" / ".epoch=1-step=10.ckpt.partial",
    ]
    left[0].write_bytes(b"cut")
    left[1].mkdir()
    another = copied / "another-run" / "checkpoints" / ".epoch=0-step=3.ckpt.partial"
    another.parent.mkdir(parents=True)
    another.write_bytes(b"being written")
    (left[1] / "__0_0.distcp").write_bytes(b"cut")
    find_checkpoint("auto", copied, fit=False)
    assert all(path.exists() for path in left)
    assert find_checkpoint("auto", copied) == str(at_step(copied, 7))
    assert not any(path.exists() for path in left) and another.exists()


def test_a_checkpoint_without_its_manifest_is_read_by_its_own_checksums(copied: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone.ckpt"
    content = at_step(copied, 7).read_bytes()
    lone.write_bytes(content)
    assert find_checkpoint(str(lone), tmp_path) == str(lone)
    for place in (len(content) // 3, len(content) // 2):
        lone.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"lone\.ckpt: (the checkpoint is damaged|the file is damaged)"):
            find_checkpoint(str(lone), tmp_path)


def test_odd_content_gets_a_sentence(copied: Path, tmp_path: Path) -> None:
    """A checkpoint's pickled part with other bytes; what cannot be exported."""
    content = torch.load(at_step(copied, 7), weights_only=True)
    torch.save(content, tmp_path / "odd.ckpt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "odd.ckpt").read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        place = rng.randrange(3000)
        (tmp_path / "odd.ckpt").write_bytes(old[:place] + bytes([rng.randrange(256)]) + old[place + 1 :])
        with contextlib.suppress(InputError):
            find_checkpoint(str(tmp_path / "odd.ckpt"), tmp_path)
    for name, value in (("state_dict", None), ("policy", "text"), ("global_step", None), ("policy", {"folder": 7})):
        spoiled = {key: kept for key, kept in content.items() if key != name} | (
            {name: value} if value is not None else {}
        )
        torch.save(spoiled, tmp_path / "odd.ckpt")
        with pytest.raises(InputError):
            export(str(tmp_path / "odd.ckpt"), str(tmp_path / "out"))
    content["state_dict"]["policy.model.lm_head.weight"][0, 0] = float("nan")
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(InputError, match=r"lm_head\.weight holds numbers that are not finite"):
        export(str(tmp_path / "odd.ckpt"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_write_takes_no_second_copy_of_the_state(tmp_path: Path, kind: str) -> None:
    """400 MB are written, and the process grows by a small part of it."""
    program = tmp_path / "write.py"
    program.write_text(
        "import resource, sys, torch\nfrom pathlib import Path\n"
        "from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO\n"
        "from mpo_lightning.runs.checkpoints.sharded import save_sharded\n"
        "state = {f'layer{n}': torch.ones(10_000_000) for n in range(10)}\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "target = Path(sys.argv[2])\nbefore = peak()\n"
        "if sys.argv[1] == 'file': ManifestCheckpointIO().save_checkpoint({'state_dict': state, 'optimizer_states': "
        "[]}, target)\n"
        "else: save_sharded({'state_dict': state}, {'global_step': 1}, target)\n"
        "print(peak() - before)\n"
    )
    done = ranks(1, str(program), kind, tmp_path / "x.ckpt")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 150_000 and problem_of(tmp_path / "x.ckpt") is None


def test_a_run_that_goes_on_keeps_its_best_and_removes_the_others(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    """Stopped twice, it leaves the files that the undisturbed run leaves."""

    def part(folder: Path, steps: int) -> None:
        callbacks = [
            StepCheckpoint(
                every_n_train_steps=1, save_top_k=2, monitor="train/loss", mode="max", filename="best-{step}"
            ),
            StepCheckpoint(every_n_train_steps=1, save_top_k=1, save_last="link"),
        ]
        trainer, model, data = make_run(
            folder,
            tiny_folder,
            shards / "train",
            data={"global_batch_size": 8},
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
            trainer={"max_steps": steps, "callbacks": callbacks, "plugins": [ManifestCheckpointIO()]},
        )
        os.environ.pop(CHOSEN, None)
        found = find_checkpoint("auto", folder)
        for callback in callbacks if found else ():
            callback.go_on_in(Path(found).parent)
        trainer.fit(model, data, ckpt_path=found)

    part(tmp_path / "whole", 6)
    for steps in (1, 4, 6):
        part(tmp_path / "stopped", steps)
    files = [sorted(path.name for path in (tmp_path / name).rglob("*.ckpt*")) for name in ("whole", "stopped")]
    assert files[0] == files[1] and len(files[0]) == 2 * 3 + 1
    assert (tmp_path / "stopped" / "version_0" / "checkpoints" / "last.ckpt").resolve().name == "epoch=0-step=6.ckpt"
