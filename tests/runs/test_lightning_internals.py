"""What `runs` assumes about the insides of Lightning; a failure names the assumption that a version broke."""

import inspect
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy

from mpo_lightning.runs import lightning_internals


def trainer(folder: Path, **options: object) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(
        **({"default_root_dir": folder, "devices": 1, "max_steps": 4, "limit_val_batches": 1} | quiet | options)
    )  # type: ignore[arg-type]


def test_a_module_outside_of_a_run_has_no_trainer_and_does_not_raise(tmp_path: Path) -> None:
    module = BoringModel()
    assert lightning_internals.attached_trainer(module) is None
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(module)
    assert lightning_internals.attached_trainer(module) is run


def test_the_environment_is_the_one_that_started_the_processes(tmp_path: Path) -> None:
    environment = LightningEnvironment()
    run = trainer(tmp_path, plugins=[environment], strategy="ddp")
    assert lightning_internals.cluster_environment(run) is environment


def test_the_launcher_of_two_processes_lists_them(tmp_path: Path) -> None:
    run = trainer(tmp_path, strategy="ddp", devices=2)
    launcher = run.strategy.launcher
    assert isinstance(launcher, lightning_internals.ScriptLauncher) and launcher.procs == []


def test_a_term_handler_is_kept(tmp_path: Path) -> None:
    program = f"""
import signal, lightning as L
from lightning.pytorch.demos.boring_classes import BoringModel
from mpo_lightning.runs.lightning_internals import keep_term_handler
def mine(*_): pass
signal.signal(signal.SIGTERM, mine)
seen = []
class See(L.Callback):
    def on_train_batch_start(self, *_): seen.append(signal.getsignal(signal.SIGTERM) is mine)
for keep in (False, True):
    run = L.Trainer(default_root_dir={str(tmp_path)!r}, max_steps=1, logger=False, enable_checkpointing=False,
                    enable_progress_bar=False, accelerator="cpu", devices=1, limit_val_batches=0, callbacks=[See()])
    if keep:
        keep_term_handler(run)
    run.fit(BoringModel())
assert seen == [False, True], seen
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


class ValidatesBetween(L.Callback):
    """Asks whether a validation is due at the start of each step, and runs one before the third."""

    def __init__(self) -> None:
        self.due: list[bool] = []
        self.validated = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.due.append(lightning_internals.validation_is_due(trainer))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == 2:
            before = self.validated
            lightning_internals.validate_inside_fit(trainer)
            assert self.validated == before + 1 and trainer.training

    def on_validation_end(self, *_: object) -> None:
        self.validated += 1


def test_a_validation_runs_inside_a_fit_and_is_due_by_the_trainers_settings(tmp_path: Path) -> None:
    callback = ValidatesBetween()
    trainer(
        tmp_path, val_check_interval=2, callbacks=[callback], enable_checkpointing=False, num_sanity_val_steps=0
    ).fit(BoringModel())
    assert callback.due == [False, True, False, True] and callback.validated == 3


def test_without_a_fit_no_validation_is_due(tmp_path: Path) -> None:
    assert not lightning_internals.validation_is_due(trainer(tmp_path))


def test_a_checkpoint_has_the_counters_that_are_rewritten(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(BoringModel())
    run.save_checkpoint(tmp_path / "one.ckpt")
    loops = torch.load(tmp_path / "one.ckpt", weights_only=True)["loops"]["fit_loop"]
    assert loops["epoch_loop.state_dict"][lightning_internals.STEPPED_BATCHES] == 4
    counts = {"ready", "started", "completed", "processed"}
    assert set(loops["epoch_progress"]["current"]) == set(loops["epoch_loop.batch_progress"]["current"]) == counts
    assert {"epoch_loop.val_loop.batch_progress", "epoch_loop.automatic_optimization.optim_progress"} <= set(loops)


class SavesNow(L.Callback):
    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        self.checkpoint = checkpoint

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        for _ in range(2):  # the second has nothing to do
            lightning_internals.save_now(self.checkpoint, trainer)


def test_a_checkpoint_is_saved_at_any_step_and_only_once(tmp_path: Path) -> None:
    written = []

    class Counting(ModelCheckpoint):
        def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
            written.append(Path(filepath).name)
            super()._save_checkpoint(trainer, filepath)

    checkpoint = Counting(tmp_path / "saved", save_top_k=-1, save_last=False, every_n_train_steps=1000)
    trainer(tmp_path, callbacks=[SavesNow(checkpoint), checkpoint]).fit(BoringModel())
    assert written == [f"epoch=0-step={step}.ckpt" for step in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_save_checkpoint", ["self", "trainer", "filepath"]),
        ("_should_remove_checkpoint", ["self", "trainer", "previous", "current"]),
    ],
)
def test_the_methods_that_the_checkpoint_callback_overrides_are_there(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(ModelCheckpoint, name)).parameters) == parameters


def test_the_mesh_has_the_sizes_that_are_set() -> None:
    strategy = ModelParallelStrategy()
    assert {"_data_parallel_size", "_tensor_parallel_size"} <= set(vars(strategy))
    lightning_internals.set_mesh(strategy, 2, 3)
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (2, 3)
    assert "tensor_parallel" in inspect.getsource(inspect.getmodule(ModelParallelStrategy))  # type: ignore[arg-type]


def test_the_optimizer_inside_lightnings_wrapper_is_found(tmp_path: Path) -> None:
    found = []

    class Manual(BoringModel):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            found.append((self.optimizers(), self.trainer.optimizers[0]))
            return super().training_step(batch, batch_idx)["loss"]

    trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(Manual())
    ((wrapper, optimizer),) = found
    assert wrapper is not optimizer and lightning_internals.bare_optimizer(wrapper) is optimizer
    assert lightning_internals.bare_optimizer(optimizer) is optimizer
