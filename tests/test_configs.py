"""Every shipped config opens with the command that uses it, and that command parses."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml

from mpo_lightning.commands import fit as training_cli
from mpo_lightning.commands.run import run as run_verb
from mpo_lightning.models.internvl.presets import PRESETS
from mpo_lightning.prefs.prompt_files import read_prompt_files
from mpo_lightning.prefs.sources import Source, check_sources, source_of

ALL = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
CONFIGS = [path for path in ALL if path.parent.name != "prefs"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_command_in_the_head_parses(
    path: Path,
    root: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    if path.stem == "wandb":
        pytest.importorskip("wandb")
    head = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
    (command,) = [line for line in head if re.match(r"mpo (fit|validate|test|predict) ", line)]
    words = shlex.split(command.replace("MODEL", str(tiny_folder)).replace("SHARDS", str(tmp_path)))
    assert path.relative_to(root / "configs").with_suffix("").as_posix() in words or path.name == "base.yaml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        training_cli.run(
            [*words[1:], *([] if "--model.policy" in words else [f"--model.policy={tiny_folder}"]), "--print_config"]
        )
    assert stopped.value.code == 0, capsys.readouterr().err
    assert "weights" in capsys.readouterr().out


@pytest.mark.parametrize("path", [path for path in ALL if path.parent.name == "prefs"], ids=lambda path: path.stem)
def test_the_command_in_the_head_of_a_config_of_prefs_parses(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (command,) = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if "mpo prefs build" in line]
    words = shlex.split(command)
    assert f"prefs/{path.stem}" in words
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as stopped:
        run_verb("prefs build", [*words[3:], "--print_config"])
    assert stopped.value.code == 0 and "kinds:" in capsys.readouterr().out


def test_the_pipeline_has_the_papers_values(root: Path) -> None:
    """arXiv 2411.10442, section 3.2 and appendix."""
    config = yaml.safe_load((root / "configs/prefs/mmpr.yaml").read_text())
    sources = [Source(**source) for source in config["sources"]]
    assert (config["samples"], config["max_new_tokens"]) == (32, 4096)
    assert config["sampling"] == {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
    assert config["pairing"] == {"pairs_per_question": 15}
    assert config["dropout"] == {"ratio": 0.5, "max_new_tokens": 2048}
    for name, tiles, correctness in (
        ("VQAv2_train", 6, False),
        ("docvqa_train", 12, False),
        ("chartqa_en", 12, True),
        ("textvqa", 12, True),
        ("geoqa+", 6, True),
        ("mine", 6, True),
    ):
        source = source_of(name, sources)
        assert (source.tiles, source.correctness, source.dropout_ntp) == (tiles, correctness, True), name
    check_sources(sources, read_prompt_files())


@pytest.mark.parametrize("path", [path for path in CONFIGS if "ablation" in path.parts], ids=lambda path: path.stem)
def test_an_ablation_overlay_leaves_nothing_of_an_earlier_one(path: Path) -> None:
    """jsonargparse keeps options of the same name when a later overlay changes the class, so each overlay names all it
    has.
    """
    model = yaml.safe_load(path.read_text())["model"]
    module, _, name = model["preference"]["class_path"].rpartition(".")
    parameters = set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    assert set(model["preference"].get("init_args", {})) == parameters
    assert set(model["weights"]) == {"preference", "quality", "generation"}


def test_the_recipe_has_the_papers_values(root: Path, capsys: pytest.CaptureFixture, tiny_folder: Path) -> None:
    recipe = yaml.safe_load((root / "configs/recipe/mpo.yaml").read_text())
    model, data, trainer = recipe["model"], recipe["data"], recipe["trainer"]
    assert model["weights"] == {"preference": 0.8, "quality": 0.2, "generation": 1.0} and model["beta"] == 0.1
    assert model["optimizer"]["init_args"] == {"lr": 5e-6, "betas": [0.9, 0.999], "weight_decay": 0.05}
    assert (model["warmup_ratio"], model["drop_path"], model["freeze"]) == (0.05, 0.1, [])
    assert (data["global_batch_size"], data["max_length"], data["max_tiles"]) == (256, 6144, 12)
    assert (trainer["precision"], trainer["gradient_clip_val"], trainer["max_epochs"]) == ("bf16-mixed", 1.0, 1)


def test_deepspeed_takes_its_overlay(root: Path) -> None:
    """By DeepSpeed's own reader, with what Lightning adds to it; that it trains has to be seen on a GPU."""
    config = pytest.importorskip("deepspeed.runtime.config")
    strategies = importlib.import_module("lightning.pytorch.strategies")
    options = yaml.safe_load((root / "configs/strategy/deepspeed.yaml").read_text())["trainer"]["strategy"]["init_args"]
    strategy = strategies.DeepSpeedStrategy(stage=options["stage"])
    read = config.DeepSpeedConfig(
        strategy.config | {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 4}
    )
    assert read.zero_optimization_stage == 2 and read.gradient_accumulation_steps == 4


SIZES = {
    # recipe, sizes: learning rate, batch, length, drop path
    ("internvl2_5_mpo", "1b 2b 4b 8b"): (1e-6, 256, 8192, 0.1),
    ("internvl2_5_mpo", "26b"): (1e-6, 256, 8192, 0.4),
    ("internvl2_5_mpo", "38b 78b"): (1e-6, 512, 8192, 0.4),
    ("internvl3_mpo", "1b 2b 8b 9b 14b"): (2e-7, 256, 12288, 0.1),
    ("internvl3_mpo", "38b 78b"): (2e-7, 512, 8192, 0.4),
    ("internvl3_5_mpo", "1b 2b 4b"): (2e-7, 256, 16384, 0.0),
    ("internvl3_5_mpo", "8b 14b 30b_a3b 20b_a4b"): (2e-7, 256, 16384, 0.1),
    ("internvl3_5_mpo", "38b 241b_a28b"): (2e-7, 256, 16384, 0.4),
}


@pytest.mark.parametrize(("recipe", "sizes"), SIZES, ids="-".join)
def test_a_recipe_with_a_sizes_overlay_has_the_scripts_values(root: Path, recipe: str, sizes: str) -> None:
    """The released scripts of InternVL at 2410d1d, a column each."""
    base = yaml.safe_load((root / f"configs/recipe/{recipe}.yaml").read_text())
    assert base["model"]["warmup_ratio"] == 0.03 and base["data"]["system_message"] == "default"
    for size in sizes.split():
        overlay = yaml.safe_load((root / f"configs/model/{recipe.removesuffix('mpo')}{size}.yaml").read_text())
        model, data = base["model"] | overlay["model"], base["data"] | overlay.get("data", {})
        rate = model["optimizer"]["init_args"]["lr"]
        found = (rate, data["global_batch_size"], data["max_length"], model["drop_path"])
        assert found == SIZES[recipe, sizes], size


def test_every_size_has_an_overlay(root: Path) -> None:
    names = {f"{name.replace('-', '_')}.yaml" for name in PRESETS if "-" in name}
    assert names <= {path.name for path in (root / "configs/model").iterdir()}
