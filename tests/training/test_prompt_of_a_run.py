"""What was chosen for the prompt is in a run's config, its checkpoints, the export, the cache and answers files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpo_lightning.models.loading import load_processor
from support.commands import mpo
from support.golden_now import CHECKPOINTS
from support.mixed_shards import mixed_shards

pytestmark = pytest.mark.slow

MODEL = CHECKPOINTS / "internvl3_5_qwen3"  # its files disagree about the system message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("prompt")
    shutil.copytree(mixed_shards(folder / "data", root).parent, folder / "shards")
    return folder


def fit(folder: Path, run: str, *options: str) -> Any:
    return mpo(
        "fit",
        *("--config", "recipe/mpo", "--config", "strategy/single"),
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.limit_train_batches=2",
        f"--trainer.default_root_dir={folder / run}",
        "--trainer.callbacks+=mpo_lightning.training.StepCheckpoint",
        "--trainer.callbacks+=mpo_lightning.training.ExportPolicy",
        f"--model.policy={MODEL}",
        "--model.drop_path=0",
        f"--data.train={folder / 'shards/train'}",
        "--data.global_batch_size=2",
        "--data.num_workers=0",
        "--data.max_length=2048",
        "--data.max_tiles=2",
        "--data.on_bad_record=quarantine",
        *options,
        cwd=folder,
    )


def test_a_run_asks_for_the_system_message_and_keeps_what_was_chosen(folder: Path) -> None:
    refused = fit(folder, "refused")
    assert refused.returncode == 2 and "disagree about the system message" in refused.stderr
    assert not list((folder / "refused").glob("*/checkpoints"))
    done = fit(folder, "run", "--data.system_message=none")
    assert done.returncode in (0, 3), done.stderr
    (version,) = (folder / "run").glob("version_*")
    data = yaml.safe_load((version / "config.yaml").read_text())["data"]
    assert (data["template"], data["system_message"], data["trained_newline"]) == ("internvl2_5", "none", True)
    # The export opens without a question, and its card says so.
    template = load_processor(version / "export").template
    assert (template.name, template.system_message, template.trained_newline) == ("internvl2_5", "", True)
    assert "| prompt | template internvl2_5, system message: none |" in (version / "export" / "README.md").read_text()
    # A checkpoint is exported with it, though the folder that it started from disagrees with itself.
    checkpoint = next((version / "checkpoints").glob("*.ckpt"))
    exported = mpo("model", "export", checkpoint, folder / "exported")
    assert exported.returncode == 0, exported.stderr
    assert load_processor(folder / "exported").template == template
    # A resumed run must keep it.
    other = fit(folder, "run", "--data.system_message=default", f"--ckpt_path={checkpoint}")
    assert other.returncode == 2 and "data.system_message" in other.stderr, other.stderr
    # Back in OpenGVLab's layout it is what that folder's files say, in both places.
    words = ("--source", version / "export", "--output", folder / "original", "--to", "opengvlab")
    assert mpo("model", "convert", *words).returncode == 0
    assert load_processor(folder / "original").template == template


def test_a_cache_of_another_prompt_is_not_taken(folder: Path) -> None:
    shards = folder / "shards" / "train"
    common = (
        "--model",
        MODEL,
        "--shards",
        shards,
        "--precision",
        "32-true",
        "--max_length",
        "2048",
        "--max_tiles",
        "2",
    )
    options = ("--on_bad", "quarantine", "--trainer.accelerator", "cpu", "--num_workers", "0")
    assert mpo("data", "reference", *common, *options).returncode == 2
    done = mpo("data", "reference", *common, *options, "--system_message", "none")
    assert done.returncode in (0, 3), done.stderr
    (meta,) = [json.loads(path.read_text()) for path in shards.glob("reference-*/meta.json")]
    assert (meta["template"], meta["system_message"], meta["trained_newline"]) == ("internvl2_5", "", True)
    refused = fit(folder, "cached", "--data.system_message=default", "--model.reference_source=cache")
    assert refused.returncode == 2 and "system_message none instead of the template's own" in refused.stderr, (
        refused.stderr
    )
    taken = fit(folder, "cached", "--data.system_message=none", "--model.reference_source=cache")
    assert taken.returncode in (0, 3), taken.stderr


def test_answers_say_which_prompt_they_had(folder: Path) -> None:
    common = ("--model", MODEL, "--shards", folder / "shards" / "train", "--max_new_tokens", "3")
    options = ("--trainer.accelerator", "cpu", "--engine.num_workers", "0", "--engine.max_tiles", "1")
    assert mpo("predict", *common, *options, "--output", folder / "none.jsonl").returncode == 2
    done = mpo("predict", *common, *options, "--output", folder / "none.jsonl", "--engine.system_message", "none")
    assert done.returncode in (0, 3), done.stderr
    told = json.loads((folder / "none.jsonl.meta.json").read_text())
    assert (told["template"], told["system_message"], told["max_new_tokens"]) == ("internvl2_5", "", 3)
