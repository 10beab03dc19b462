"""What a user can ask of `mpo fit` and it cannot do is one sentence that names the callback or the setting."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpo_lightning.commands import fit as training_cli
from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.tiny import write_tiny_model
from support.commands import mpo, ranks


@pytest.fixture
def words(root: Path, shards: Path, tiny_folder: Path, tmp_path: Path) -> list[str]:
    configs = [f"--config={root / f'configs/{name}.yaml'}" for name in ("base", "recipe/mpo", "model/tiny")]
    return [
        *configs,
        f"--trainer.default_root_dir={tmp_path / 'run'}",
        f"--model.policy={tiny_folder}",
        f"--data.train={shards / 'train'}",
        f"--data.validation={shards / 'validation'}",
        "--data.global_batch_size=8",
        "--data.micro_batch_size=4",
        "--data.num_workers=0",
        "--data.max_tiles=1",
        "--trainer.max_steps=2",
        "--trainer.enable_progress_bar=false",
    ]


@pytest.mark.parametrize(
    ("callback", "options", "said"),
    [
        (
            "GradientAccumulationScheduler",
            ["scheduling={0: 2}"],
            r"cannot be used here; data\.global_batch_size decides",
        ),
        ("LearningRateFinder", [], r"cannot be used here; set model\.optimizer\.lr"),
        ("BatchSizeFinder", [], r"cannot be used here; data\.global_batch_size is the batch"),
        ("BackboneFinetuning", [], r"cannot be used here; set model\.freeze"),
        ("EarlyStopping", ["monitor=val/nothing"], "cannot be used here .*`val/nothing` which is not available"),
        ("ModelPruning", ["pruning_fn=l1_unstructured", "amount=0.1"], "cannot be used here"),
    ],
)
def test_a_callback_that_cannot_be_used_is_named(
    words: list[str], callback: str, options: list[str], said: str
) -> None:
    more = [f"--trainer.callbacks+={callback}", *(f"--trainer.callbacks.{option}" for option in options)]
    with pytest.raises(InputError, match=f"^trainer\\.callbacks: {callback} {said}") as raised:
        training_cli.run(["fit", *words, *more])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.logger=CometLogger"], "comet.* not (met|available|installed)|requires|pip install"),
        (["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=2"], r"^Invalid decay value 2\.0"),
        (["--trainer.callbacks+=ThroughputMonitor"], "^--trainer.callbacks: missing: batch_size_fn"),
        (["--trainer.callbacks+=LearningRateMonitor", "--trainer.callbacks.logging_interval=hour"], "Got value: hour"),
    ],
)
def test_what_cannot_be_built_is_one_short_sentence(words: list[str], options: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        training_cli.run(["fit", *words, *options])
    assert len(str(raised.value)) < 400


def test_a_run_without_a_logger_has_no_monitor_of_rates(words: list[str]) -> None:
    training_cli.run(["fit", *words, "--trainer.logger=false"])


@pytest.mark.parametrize("callback", ["WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging"])
def test_sharded_weights_are_not_averaged(words: list[str], root: Path, callback: str) -> None:
    more = [f"--config={root / 'configs/strategy/fsdp2_cpu.yaml'}", f"--trainer.callbacks+={callback}"]
    more += ["--trainer.callbacks.swa_lrs=1e-4"] if callback.startswith("Stochastic") else []
    with pytest.raises(InputError, match=f"{callback} needs whole weights on each device; use a strategy"):
        training_cli.run(["fit", *words, *more])


def test_two_processes_have_the_average_of_one(words: list[str], root: Path, tmp_path: Path) -> None:
    words = [*words, "--trainer.callbacks+=WeightAveraging", "--trainer.max_steps=3"]
    training_cli.run(["fit", *words, f"--trainer.default_root_dir={tmp_path / 'one'}"])
    more = [f"--config={root / 'configs/strategy/ddp_cpu.yaml'}", f"--trainer.default_root_dir={tmp_path / 'two'}"]
    done = ranks(2, "mpo", "fit", *words, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(next((tmp_path / name).rglob("export")) / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


def test_a_callback_with_an_enumeration_is_written_to_config_yaml(words: list[str], tmp_path: Path) -> None:
    more = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00"]
    training_cli.run(["fit", *words, *more])
    saved = tmp_path / "run/version_0/config.yaml"
    assert "interval: step" in saved.read_text()


def test_fewer_steps_than_are_logged_are_not_no_steps(words: list[str], capsys: pytest.CaptureFixture) -> None:
    training_cli.run(["fit", *words, "--trainer.log_every_n_steps=50"])
    said = capsys.readouterr().out
    assert "the 2 steps are fewer than trainer.log_every_n_steps, 50" in said and "no step was left" not in said


def test_tasks_of_slurm_that_do_not_fit_are_one_sentence(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NTASKS", "3"), ("JOB_ID", "1"), ("JOB_NAME", "mpo"), ("PROCID", "0"), ("LOCALID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_NODEID", "0")
    with pytest.raises(InputError, match=r"--ntasks=3.*Use `--ntasks-per-node=3`"):
        training_cli.run(["fit", *words, "--trainer.devices=2", "--trainer.strategy=ddp"])


def test_a_checkpoint_of_other_shapes_is_one_sentence(words: list[str], tmp_path: Path) -> None:
    lora = ["--model.reference_source=adapter", "--model.lora.rank=4"]
    training_cli.run(["fit", *words, *lora])
    (saved,) = (tmp_path / "run").rglob("last.ckpt")
    with pytest.raises(InputError, match=r"lora_A\.default\.weight has the shape \[4, 128\], not \[8, 128\]"):
        training_cli.run(["validate", *words, *lora, "--model.lora.rank=8", f"--ckpt_path={saved}"])
    training_cli.run(["fit", *words, f"--trainer.default_root_dir={tmp_path / 'all'}"])
    (saved,) = (tmp_path / "all").rglob("last.ckpt")
    larger = tmp_path / "larger"
    write_tiny_model(larger)
    weights = load_file(larger / "model.safetensors")
    for name in [name for name in weights if "embed_tokens" in name or "lm_head" in name]:
        weights[name] = torch.cat([weights[name], weights[name][:64]])
    save_file(weights, larger / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((larger / "config.json").read_text())
    config["text_config"]["vocab_size"] += 64
    (larger / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"embed_tokens\.weight has the shape \[1036, 128\], not \[1100, 128\]"):
        training_cli.run(["validate", *words, f"--model.policy={larger}", f"--ckpt_path={saved}"])


def test_an_error_of_a_users_own_callback_keeps_its_traceback(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import lightning as L\n\n\nclass Mine(L.Callback):\n"
        "    def on_train_start(self, *_):\n        raise KeyError('mine')\n"
    )
    done = mpo("fit", *words, "--trainer.callbacks+=own.Mine", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "KeyError: 'mine'" in done.stderr
