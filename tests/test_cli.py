"""The command: help, dispatch, overlays, and the traps of LightningCLI."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from mpo_lightning import cli
from mpo_lightning.commands import fit as training_cli
from mpo_lightning.commands import model
from mpo_lightning.commands.run import run as run_verb
from mpo_lightning.commands.verbs import VERBS
from mpo_lightning.data.dataset import PairDataset
from mpo_lightning.errors import InputError
from mpo_lightning.models.loading import load_model
from mpo_lightning.runs import lock as run_lock
from mpo_lightning.runs.checkpoints.choice import CHOSEN
from support.commands import another_run, mpo
from support.processes import free_port, run_apart
from support.runs import logged

FEW_TILES = "--data.max_tiles=2"
QUIZ = ["--benchmark", "questions", "--responses", "R.jsonl", "--output", "O.jsonl"]


def test_help_is_quick_imports_no_torch_and_lists_every_verb() -> None:
    probe = (
        "import sys; from mpo_lightning.cli import run; run(['--help']); assert not {'torch', 'lightning', "
        "'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name, verb in VERBS.items():
        assert f"  {name:<18} {verb.text.replace('`', '')}" in done.stdout.splitlines()


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_its_function_and_explains_it(name: str, capsys: pytest.CaptureFixture) -> None:
    assert callable(VERBS[name].function())
    with suppress(SystemExit):
        cli.run([*name.split(), "--help"])
    assert name.split()[-1] in capsys.readouterr().out.partition("options:")[0]


def test_the_readmes_table_is_the_table_of_verbs(root: Path) -> None:
    rows = re.findall(r"^\| `mpo ([^`]+)` \| (.*) \|$", (root / "README.md").read_text(), re.MULTILINE)
    assert dict(rows) == {name: verb.text for name, verb in VERBS.items()}


def test_an_unknown_verb_is_refused() -> None:
    with pytest.raises(InputError, match="unknown verb 'train'"):
        cli.run(["train"])


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = mpo("data", "shard", "--meta", tmp_path / "no.json", "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"mpo: {tmp_path / 'no.json'}: cannot read the meta file")


def test_a_verb_without_arguments_says_what_it_needs() -> None:
    done = mpo("fit")
    assert done.returncode == 2 and done.stderr.startswith("mpo: 'mpo fit' needs a model and shards: mpo fit --config")
    done = mpo("data", "shard")
    assert done.returncode == 2 and "missing: meta, output; " in done.stderr
    done = mpo("data")
    assert done.returncode == 0 and "  data shard " in done.stdout
    done = mpo("data", "shred")
    assert done.returncode == 2 and "unknown verb 'data shred'" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["data", "shard", "--met", "M", "--meta", "M", "--output", "O"],
            r"--met M \(did you mean --meta\?\); 'mpo data",
        ),
        (
            ["prefs", "pair", "--responses", "R", "--output", "O", "--reuse", "2"],
            r"\(did you mean --pairing.reuse\?\); 'mpo prefs",
        ),
        (
            ["predict", "--model", "M", "--output", "O", "--devices", "2"],
            r"\(did you mean --trainer.devices\?\); 'mpo predict",
        ),
        (["eval", "score", *QUIZ, "--mode", "offical"], "^--mode: offical is not one of 'robust', 'official'; "),
        (
            ["eval", "score", *QUIZ, "--mode", "official"],
            "^--mode official: questions has no official rule; choose robust$",
        ),
        (["eval", "score", *QUIZ, "--benchmark", "?"], "choose one of crpe, .*pope, questions, or name your own"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_the_words_of_the_command_line(words: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        cli.run(words)


def test_a_users_own_loss_lies_in_the_working_folder(
    root: Path, shards: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "from mpo_lightning.objectives import PreferenceLoss\n\n\nclass Mine(PreferenceLoss):\n"
        "    def __call__(self, policy, reference, beta):\n        return (policy.rejected - policy.chosen) * 0\n"
    )
    command = [
        "fit",
        "--config",
        str(root / "configs/base.yaml"),
        "--config",
        str(root / "configs/recipe/mpo.yaml"),
        "--config",
        str(root / "configs/model/tiny.yaml"),
        "--model.policy",
        str(tiny_folder),
        "--data.train",
        str(shards / "train"),
        "--trainer.max_steps=1",
        "--data.global_batch_size=4",
        "--data.num_workers=0",
        "--model.preference=own.Mine",
    ]
    done = mpo(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no prediction; largest margin 0" in done.stdout + done.stderr


def test_verbs_take_a_config_and_teach_their_options(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(f"output: {tmp_path / 'model'}\nseed: 3\n")
    run_verb("model tiny", ["--config", str(tmp_path / "tiny.yaml")])
    assert (tmp_path / "model" / "model.safetensors").exists()
    done = mpo("data", "shard", "--help")
    assert (
        done.returncode == 0
        and "pairs of one question" in done.stdout
        and "--on_bad {strict,quarantine}" in done.stdout
    )


@pytest.fixture
def fit_arguments(root: Path, shards: Path, tiny_folder: Path, tmp_path: Path) -> list[str]:
    configs = [
        argument
        for name in ("base", "recipe/mpo", "model/tiny", "data/sample")
        for argument in ("--config", str(root / f"configs/{name}.yaml"))
    ]
    return [
        *configs,
        f"--trainer.default_root_dir={tmp_path / 'run'}",
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=2",
        f"--model.policy={tiny_folder}",
        f"--data.train={shards / 'train'}",
        f"--data.validation={shards / 'validation'}",
        "--data.num_workers=0",
        FEW_TILES,
        "--model.optimizer.lr=0.001",
    ]


def test_fit_runs_again_in_the_same_folder_and_from_its_own_saved_config(
    fit_arguments: list[str], tmp_path: Path
) -> None:
    training_cli.run(["fit", *fit_arguments])
    training_cli.run(["fit", *fit_arguments])
    saved = tmp_path / "run" / "version_0" / "config.yaml"
    values = yaml.safe_load(saved.read_text())
    assert values["model"]["weights"] == {"preference": 0.8, "quality": 0.2, "generation": 1.0}
    assert values["model"]["optimizer"]["init_args"]["lr"] == 0.001 and "processor" not in values["data"]
    training_cli.run(["fit", "--config", str(saved)])
    assert logged(tmp_path / "run", "train/loss", 2) == logged(tmp_path / "run", "train/loss", 0)


def test_the_command_line_wins_over_a_checkpoint(fit_arguments: list[str], tmp_path: Path) -> None:
    """LightningCLI takes hyper-parameters out of a checkpoint over what the user says; ours has none in it."""
    training_cli.run(["fit", *fit_arguments])
    last = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    made = training_cli.run(["validate", *fit_arguments, f"--ckpt_path={last}", "--model.beta=0.9"])
    assert made.model.objective.beta == 0.9
    loaded = torch.load(last, weights_only=True)["state_dict"]["policy.model.lm_head.weight"]
    assert torch.equal(made.model.policy.model.lm_head.weight, loaded)


def test_last_resumes_the_newest_run_and_says_where_it_stands(
    fit_arguments: list[str], tmp_path: Path, shards: Path
) -> None:
    training_cli.run(["fit", *fit_arguments, "--trainer.max_steps=1"])
    made = training_cli.run(["fit", *fit_arguments, "--ckpt_path=last"])
    assert made.trainer.ckpt_path == str(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")
    assert len(logged(tmp_path / "run", "train/loss", 0)) == len(logged(tmp_path / "run", "train/loss", 1)) == 1
    assert made.trainer.global_step == 2


def test_loggers_write_into_the_run_folder(fit_arguments: list[str], root: Path, tmp_path: Path) -> None:
    training_cli.run(["fit", *fit_arguments, "--config", str(root / "configs/logger/tensorboard.yaml")])
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.*")) and logged(tmp_path / "run", "train/loss")


def test_set_aside_records_end_in_exit_code_3(
    fit_arguments: list[str], shards: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        training_cli.run(
            [
                "validate",
                *(word for word in fit_arguments if word != FEW_TILES),
                "--data.on_bad_record=quarantine",
                "--data.max_length=250",
                f"--data.validation={shards / 'train'}",
            ]
        )
    assert stopped.value.code == 3 and "records were skipped; quarantine-*.jsonl" in capsys.readouterr().out


def test_test_writes_means_and_a_line_a_pair(fit_arguments: list[str], tmp_path: Path) -> None:
    training_cli.run(["test", *fit_arguments])
    assert logged(tmp_path / "run", "test/pairs") == [8]
    assert len((tmp_path / "run" / "version_0" / "scores-0.jsonl").read_text().splitlines()) == 8


def test_a_run_that_was_killed_after_its_last_step_is_brought_to_its_end(
    fit_arguments: list[str], tmp_path: Path
) -> None:
    training_cli.run(["fit", *fit_arguments])
    first = load_model(tmp_path / "run" / "version_0" / "export").state_dict()
    shutil.rmtree(tmp_path / "run" / "version_0" / "export")
    training_cli.run(["fit", *fit_arguments, "--ckpt_path=auto"])
    again = load_model(tmp_path / "run" / "version_1" / "export").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_export_is_the_trained_policy(fit_arguments: list[str], tmp_path: Path, tiny_folder: Path) -> None:
    made = training_cli.run(["fit", *fit_arguments])
    exported = load_model(tmp_path / "run" / "version_0" / "export").state_dict()
    trained = made.model.policy.model.state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in trained.items())
    assert not torch.equal(exported["lm_head.weight"], load_model(tiny_folder).lm_head.weight)
    card = (tmp_path / "run" / "version_0" / "export" / "README.md").read_text()
    assert (
        "| preference loss | DPO, weight 0.8 |" in card
        and "| training | 2 steps of 8 pairs," in card
        and "learning rate 0.001" in card
    )


def test_print_config_shows_overlays_in_order(
    fit_arguments: list[str], root: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        training_cli.run(
            [
                "fit",
                *(word for word in fit_arguments if word != FEW_TILES),
                "--config",
                str(root / "configs/recipe/ablation/orpo.yaml"),
                "--model.weights.generation=0.5",
                "--print_config",
            ]
        )
    assert stopped.value.code == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["model"]["preference"]["class_path"] == "mpo_lightning.objectives.ORPO"
    assert values["model"]["weights"] == {"preference": 0.1, "quality": 0.0, "generation": 0.5}
    assert values["data"]["global_batch_size"] == 8 and values["data"]["max_tiles"] == 12


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "--model.betta=0.1",
            r"^unrecognized arguments: --model.betta=0.1 \(did you mean --model.beta\?\); 'mpo fit --help' explains "
            r"every option$",
        ),
        ("--data.tilez=3", "tilez"),
        ("--model.beta=small", "^--model.beta: small is not a float; "),
        (
            "--model.preference=Hinge",
            "^--model.preference: there is no class Hinge; name one of this package, or the class",
        ),
        ("--model.freeze=[eyes]", "freeze"),
        ("--data.processor=x", "model.policy"),
        ("--data.train={a: 1, a: 0.5}", r"^the key 'a' appears twice in one mapping \(line 1\)"),
        ("--data.num_workers=-1", "^data.num_workers must be at least 0, got -1$"),
        ("--data.seed=-5", ("^data.seed must be at least 0, got -5$")),
        (
            "--trainer.callbacks+=mpo_lightning.training.Alarms",
            ("^trainer.callbacks: .*more than one stateful callback of type"),
        ),
    ],
)
def test_an_unknown_key_or_value_is_named(fit_arguments: list[str], argument: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        training_cli.run(["fit", *fit_arguments, argument])


def test_a_key_that_a_config_has_twice_is_named(fit_arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("data:\n  max_tiles: 1\nmodel:\n  beta: 0.1\ndata:\n  max_length: 99\n")
    with pytest.raises(
        InputError, match=r"^--config .*own\.yaml: the key 'data' appears twice in one mapping \(line 5\)"
    ):
        training_cli.run(["fit", *fit_arguments, "--config", str(tmp_path / "own.yaml")])
    (tmp_path / "own.yaml").write_text("one: &one {a: 1}\ndata:\n  max_tiles: 1\n")
    with pytest.raises(InputError, match="one"):  # not a repeated key
        training_cli.run(["fit", *fit_arguments, "--config", str(tmp_path / "own.yaml")])


def test_what_is_left_out_is_named(root: Path) -> None:
    with pytest.raises(InputError, match=r"^--model\.policy is missing; 'mpo fit --help' explains every option$"):
        training_cli.run(["fit", "--config", str(root / "configs/base.yaml")])


def test_a_folder_of_no_user_is_one_of_that_name(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training_cli.run(["fit", *fit_arguments, "--trainer.default_root_dir=~nosuchuser/run", "--trainer.max_steps=1"])
    assert (tmp_path / "~nosuchuser" / "run" / "version_0" / "metrics.csv").exists()


def test_callbacks_can_be_added_to_the_bases(fit_arguments: list[str]) -> None:
    made = training_cli.run(
        [
            "fit",
            *fit_arguments,
            "--trainer.callbacks+=lightning.pytorch.callbacks.ModelSummary",
            "--trainer.max_steps=1",
        ]
    )
    names = {type(callback).__name__ for callback in made.trainer.callbacks}
    assert {
        "ModelSummary",
        "StartupCheck",
        "StepCheckpoint",
        "ExportPolicy",
        "Curves",
        "RichProgressBar",
        "LearningRateMonitor",
    } <= names


def test_progress_bar_and_checkpoints_can_be_switched_off(fit_arguments: list[str], tmp_path: Path) -> None:
    made = training_cli.run(
        [
            "fit",
            *fit_arguments,
            "--trainer.max_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_checkpointing=false",
        ]
    )
    names = {type(callback).__name__ for callback in made.trainer.callbacks}
    assert {"StartupCheck", "ExportPolicy"} <= names and not names & {"RichProgressBar", "StepCheckpoint"}
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_a_users_own_loss_is_named_by_class_path(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_losses.py").write_text(
        "from mpo_lightning.objectives import PreferenceLoss\n\n\nclass Squared(PreferenceLoss):\n"
        "    def __init__(self, target: float = 1.0):\n        self.target = target\n\n"
        "    def __call__(self, policy, reference, beta):\n"
        "        return (beta * (policy.chosen - reference.chosen) - self.target) ** 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = [
        "--model.preference=my_losses.Squared",
        "--model.preference.target=2.0",
        "--model.weights.quality=0",
        "--model.weights.generation=0",
    ]
    training_cli.run(["fit", *fit_arguments, *own])
    assert logged(tmp_path / "run", "train/loss")[0] == pytest.approx(0.8 * 4, rel=1e-3)  # drop path is on


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model.preference=EXO", "--model.preference.label_smoothing=0"], "EXO needs a label_smoothing"),
        (["--ckpt_path=nowhere.ckpt"], "no such checkpoint"),
        (["--ckpt_path=/tmp"], "the folder is not a checkpoint"),
        (["--trainer.precision=bf16-true"], "bf16-true is not supported"),
        (["--trainer.precision=64-true"], "64-true is not supported"),
        (["--trainer.limit_train_batches=0"], "nothing would be trained"),
        (["--ckpt_path=last"], "leave --ckpt_path out to start a new run"),
        (["--model.weights.quality=.nan"], "weights must be numbers"),
        (["--model.warmup_ratio=.nan"], "warmup_ratio must be between 0 and 1"),
        (["--model.optimizer.lr=-1"], "model.optimizer: Invalid learning rate"),
        (["--trainer.max_epochs=-1", "--trainer.max_steps=-1"], "the run has no end"),
        (["--data.micro_batch_size=0"], "micro_batch_size must be at least 1"),
        (["--data.template=chatml"], "unknown chat template"),
        (["--trainer.val_check_interval=100"], r"`val_check_interval` \(100\) must be less than or equal to"),
        (["--trainer.default_root_dir=s3://bucket/run"], "s3://bucket/run: checkpoints are written to a disk"),
        (
            [
                "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
                "--trainer.logger.save_dir=elsewhere",
                "--ckpt_path=auto",
            ],
            "Lightning writes checkpoints to the first logger's save_dir elsewhere",
        ),
    ],
)
def test_an_impossible_setting_is_one_sentence(fit_arguments: list[str], arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        training_cli.run(["fit", *fit_arguments, *arguments])


def test_export_takes_its_two_values_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, str, str | None]] = []

    def export(checkpoint: str, output: str, policy: str | None = None) -> None:
        """Notes what it is given."""
        given.append((checkpoint, output, policy))

    monkeypatch.setattr(model, "export", export)
    for words in (["a.ckpt", "out"], ["a.ckpt", "out", "--policy", "null"]):
        run_verb("model export", words)
    run_verb("model export", ["a.ckpt", "out", "--policy", "model"])
    assert given == [("a.ckpt", "out", None)] * 2 + [("a.ckpt", "out", "model")]
    for words in (["a.ckpt"], ["a.ckpt", "out", "more"]):
        with pytest.raises(InputError, match=r"'mpo model export --help' explains every option$"):
            run_verb("model export", words)


def test_where_an_export_goes_is_looked_at_before_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("not even a checkpoint")
    (tmp_path / "link").symlink_to("/nowhere/export")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for name, words in (
        ("a.ckpt", "is a file"),
        ("link", "a link to a folder that is not there"),
        ("full", "is not empty"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / name))}: .*{words}"):
            run_verb("model export", [str(tmp_path / "a.ckpt"), str(tmp_path / name)])


def test_an_output_that_cannot_be_written_is_one_sentence(shards: Path) -> None:
    with pytest.raises(InputError, match=r"/proc/.*: cannot read or write there"):
        run_verb("data show", [str(shards / "train"), "--output", "/proc/none/page.html"])


def test_bad_input_of_a_run_is_one_sentence_too(tmp_path: Path, root: Path) -> None:
    done = mpo("fit", "--config", root / "configs/base.yaml", "--model.policy", tmp_path / "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "nothing: no model here (config.json is missing)" in done.stderr.splitlines()[-1]
        and "Traceback" not in done.stderr
    )


def test_a_loader_process_that_the_system_kills_is_named(
    fit_arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairDataset, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InputError, match=r"a loader process was killed.*set data\.num_workers lower"):
        training_cli.run(["fit", *fit_arguments, "--data.num_workers=1", "--trainer.callbacks=[]"])


def test_what_lightning_refuses_of_a_callback_is_one_sentence_too(fit_arguments: list[str], tmp_path: Path) -> None:
    callback = {
        "class_path": "mpo_lightning.training.StepCheckpoint",
        "init_args": {"every_n_train_steps": 5, "save_top_k": 2},
    }
    with pytest.raises(InputError, match="No quantity for top_k to track"):
        training_cli.run(["fit", *fit_arguments, f"--trainer.callbacks={json.dumps([callback])}"])
    (tmp_path / "link").symlink_to("/nowhere/run")
    with pytest.raises(InputError, match="link is a link to a folder that is not there"):
        training_cli.run(["fit", *fit_arguments, f"--trainer.default_root_dir={tmp_path / 'link'}"])


def test_one_run_at_a_time_writes_into_a_folder(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "WAIT", 0.5)
    monkeypatch.setenv(CHOSEN, "")
    training_cli.run(["fit", *fit_arguments])
    with another_run(tmp_path / "run") as alone:
        assert alone  # the fit has released it
        with pytest.raises(InputError, match="another run writes there"):
            training_cli.run(["fit", *fit_arguments, "--ckpt_path=auto"])
        training_cli.run(["validate", *fit_arguments, "--ckpt_path=auto"])
    with pytest.raises(InputError, match="no model here"):
        training_cli.run(["fit", *fit_arguments, f"--model.policy={tmp_path}"])
    with another_run(tmp_path / "run") as alone:
        assert alone  # so has one that failed


def test_a_dirpath_on_a_disk_that_is_not_there_is_named(fit_arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "kept").symlink_to("/nowhere/kept")
    callback = {"class_path": "mpo_lightning.training.StepCheckpoint", "init_args": {"dirpath": str(tmp_path / "kept")}}
    with pytest.raises(InputError, match=r"^dirpath: .*kept is a link to a folder that is not there; mount its disk"):
        training_cli.run(["fit", *fit_arguments, f"--trainer.callbacks={json.dumps(callback)}"])
    assert not Path("/nowhere").exists()


def test_auto_leaves_another_runs_files_alone(fit_arguments: list[str], tmp_path: Path) -> None:
    """Found through a link in this run's folder, it is gone on from; nothing is written or removed there."""
    training_cli.run(["fit", *fit_arguments])
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "base").symlink_to(tmp_path / "run")
    os.environ.pop(CHOSEN, None)
    more = [f"--trainer.default_root_dir={tmp_path / 'next'}", "--trainer.max_steps=3", "--ckpt_path=auto"]
    training_cli.run(["fit", *fit_arguments, *more])
    os.environ.pop(CHOSEN, None)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
    assert list((tmp_path / "next").glob("version_0/checkpoints/*step=3.ckpt"))


def test_auto_goes_on_in_the_folder_of_the_run_before(fit_arguments: list[str], tmp_path: Path) -> None:
    training_cli.run(["fit", *fit_arguments, "--ckpt_path=auto"])
    os.environ.pop(CHOSEN, None)
    training_cli.run(["fit", *fit_arguments, "--ckpt_path=auto", "--trainer.max_steps=3"])
    (kept,) = (tmp_path / "run").glob("version_*/checkpoints/*step*.ckpt")
    assert (tmp_path / "run/version_0/checkpoints/last.ckpt").resolve() == kept.resolve() and kept.name.endswith(
        "step=3.ckpt"
    )
    os.environ.pop(CHOSEN, None)


def test_a_home_folder_and_a_single_callback_are_found_again(
    fit_arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(run_lock, "WAIT", 0.5)
    monkeypatch.setenv(CHOSEN, "")
    callback = {
        "class_path": "mpo_lightning.training.StepCheckpoint",
        "init_args": {"dirpath": "~/kept", "every_n_train_steps": 1},
    }
    more = [
        "--trainer.default_root_dir=~/home",
        f"--trainer.callbacks={json.dumps(callback)}",
        "--trainer.logger=false",
        "--ckpt_path=auto",
    ]
    training_cli.run(["fit", *fit_arguments, *more, "--trainer.max_steps=1"])
    monkeypatch.setenv(CHOSEN, "")
    with caplog.at_level("INFO"):
        training_cli.run(["fit", *fit_arguments, *more])
    assert f"resuming from {tmp_path}/kept/" in caplog.text and list((tmp_path / "kept").glob("*step=2.ckpt"))
    with another_run(tmp_path / "kept") as alone:
        assert alone
        with pytest.raises(InputError, match="kept: another run writes there"):
            training_cli.run(["fit", *fit_arguments, *more])


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
def test_a_run_folder_that_is_a_file_is_named(fit_arguments: list[str], tmp_path: Path, verb: str) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match=r"^trainer.default_root_dir: .*run is a file; give a folder"):
        training_cli.run([verb, *fit_arguments])
    assert (tmp_path / "run").read_text() == "mine"


def test_launch_prints_a_script_that_a_shell_understands(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b.yaml").write_text("seed_everything: 3")
    fit = ["--config", "a b.yaml", "--model.policy=MODEL"]
    cli.run(["launch", "--nodes", "8", "--gpus=4", *fit])
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    for line in ("#SBATCH --nodes=8", "#SBATCH --ntasks-per-node=4", "#SBATCH --requeue"):
        assert line in script.splitlines()
    assert (
        "mpo fit --config 'a b.yaml' --model.policy=MODEL --ckpt_path auto --trainer.num_nodes 8 --trainer.devices 4"
        in script
    )
    cli.run(["launch", "--nodes", "2", "--gpus", "8", "--scheduler", "torchrun", *fit, "--ckpt_path", "last"])
    script = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert (
        "--nnodes=2 --nproc-per-node=8 --max-restarts=3" in script
        and "--ckpt_path last" in script
        and "auto" not in script
    )
    for words, message in (
        ([], ""),
        (["--nodes", "x", "--gpus", "1", "a"], "--nodes must be a whole number"),
        (["--nodes"], "needs a value"),
        (["--nodes", "1", "--gpus", "1"], "nothing to run"),
        (["--nodes=1", "--gpus=1", "--scheduler=k8s", "a"], "slurm or torchrun"),
    ):
        if words:
            with pytest.raises(InputError, match=message):
                cli.run(["launch", *words])
        else:
            cli.run(["launch"])
            assert "--scheduler" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--config", "nope.yaml"], "--config nope.yaml: there is no such file here"),
        (["--ckpt_path", "x.ckpt"], "it resumes by itself"),
        (["--trainer.num_nodes", "4"], "trainer.num_nodes is 4, but --nodes is 2"),
        (["--trainer.devices=2"], ("trainer.devices is 2, but --gpus is 8")),
        (["--time", "1 day; rm"], "goes into the script"),
        (["--job_name", "a b"], "goes into the script"),
        (["--time", "-:-"], "goes into the script"),
        (["--job_name", "--"], "goes into the script"),
        (["a"], "unrecognized arguments: a; 'mpo fit --help'"),
        (["--node", "3"], "unrecognized arguments: --node 3"),
        (["--optimiser.lr", "1"], "unrecognized arguments"),
        (["--data.trian=x"], ("unrecognized arguments: --data.trian=x")),
        (
            ["--config", "configs/base.yaml", "--config", "configs/strategy/single.yaml"],
            ("trainer.devices is 1, but --gpus is 8"),
        ),
        (["--config", "configs/strategy/ddp_cpu.yaml"], "trainer.devices is 2"),
        (["--nodes=²"], "must be a whole number"),
        (["--gpus=٣"], "must be a whole number"),
        (["--port", "99999"], "must be at most 65535"),
        (["-c", "x.yaml"], "--config x.yaml: there is no such file here"),
        (["--config", "configs/strategy/deepspeed.yaml"], "DeepSpeed's checkpoints have no manifest"),
        (
            ["--config", "configs/base.yaml", "--trainer.strategy", "deepspeed_stage_2"],
            "^trainer.strategy: DeepSpeed's",
        ),
        (["--trainer", '{"strategy": "deepspeed"}'], "^trainer.strategy: DeepSpeed's"),
        (["--data.max_tiles", "many"], "data.max_tiles"),
        (["--ckpt_path", "pyproject.toml"], "it resumes by itself"),
        (["--print_config"], "has no place in a launch script"),
        (["--trainer.default_root_dir=s3://b/run"], "not to a URL"),
        (
            ["--trainer.strategy.class_path=lightning.pytorch.strategies.DeepSpeedStrategy"],
            ("DeepSpeed's checkpoints have no manifest"),
        ),
    ],
)
def test_launch_refuses_what_its_script_would_contradict(
    given: list[str], words: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match=words):
        cli.run(["launch", "--nodes", "2", "--gpus", "8", "--model.policy=MODEL", *given])


def test_launch_takes_the_last_word_of_overlays_and_options(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(root)
    overlays = [
        "--config",
        "configs/strategy/deepspeed.yaml",
        "--trainer.strategy",
        "deepspeed",
        "--config",
        "configs/strategy/hybrid.yaml",
    ]
    cli.run(["launch", "--nodes", "2", "--gpus", "8", "--model.policy=MODEL", *overlays])
    assert "hybrid.yaml --ckpt_path auto" in capsys.readouterr().out


@pytest.mark.slow
def test_the_torchrun_script_trains_on_two_processes_and_goes_on(
    root: Path, shards: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    overlays = [
        part
        for name in ("base", "recipe/mpo", "strategy/ddp_cpu")
        for part in ("--config", str(root / f"configs/{name}.yaml"))
    ]
    fit = [
        *overlays,
        f"--model.policy={tiny_folder}",
        f"--data.train={shards / 'train'}",
        "--data.global_batch_size=8",
        "--data.micro_batch_size=2",
        "--data.num_workers=0",
        "--data.max_length=1024",
        "--data.max_tiles=2",
        "--trainer.precision=32-true",
        f"--trainer.default_root_dir={tmp_path / 'run'}",
        "--model.gradient_checkpointing=false",
    ]
    for steps in ("2", "4"):
        words = [
            "launch",
            "--nodes=1",
            "--gpus=2",
            "--scheduler=torchrun",
            f"--port={free_port()}",
            *fit,
            "--trainer.max_steps",
            steps,
        ]
        cli.run(words)
        script = capsys.readouterr().out.replace("torchrun ", f"{sys.executable} -m torch.distributed.run ", 1)
        done = run_apart("bash", "-c", script, seconds=240, cwd=tmp_path, env={"PYTHONPATH": str(root / "src")})
        assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming from" in done.stderr
    assert len(logged(tmp_path / "run", "train/loss")) == 2 and len(logged(tmp_path / "run", "train/loss", 1)) == 2
