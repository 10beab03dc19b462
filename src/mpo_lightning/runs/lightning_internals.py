"""Lightning's private API, all of it that the package uses.

Each function depends on one assumption about Lightning 2.6, which `tests/runs/test_lightning_internals.py` checks. The
upper bound in pyproject.toml is raised once these tests pass with the next minor version.
"""

import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.device_mesh import DeviceMesh

ScriptLauncher = _SubprocessScriptLauncher
"""Launcher that starts the same command once per device; its `procs` are the processes that it started."""


def attached_trainer(module: L.LightningModule) -> L.Trainer | None:
    """Returns the module's trainer, or None outside of a run, where `module.trainer` raises."""
    return module._trainer


def cluster_environment(trainer: L.Trainer) -> ClusterEnvironment | None:
    """Returns the environment that started the processes, such as SLURM's."""
    return trainer._accelerator_connector.cluster_environment


def keep_term_handler(trainer: L.Trainer) -> None:
    """Makes Lightning keep the SIGTERM handler that was set before the run."""
    connector = trainer._signal_connector
    register = connector.register_signal_handlers

    def registered() -> None:
        before = signal.getsignal(signal.SIGTERM)
        register()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    connector.register_signal_handlers = registered  # type: ignore[method-assign]


def validation_is_due(trainer: L.Trainer) -> bool:
    """Whether the fit loop validates after the batch that its counters say was the last."""
    fit = trainer.fit_loop
    return fit._data_fetcher is not None and fit.epoch_loop._should_check_val_fx(fit._data_fetcher)


def validate_inside_fit(trainer: L.Trainer) -> None:
    """Runs the validation loop of a fit before its next step; the trainer's stage and logging stay those of the fit."""
    connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop.val_loop
    stage, first = trainer.state.stage, connector._first_loop_iter
    trainer.validating = True
    loop.restarting = False
    loop.run()
    trainer.state.stage = stage
    connector._first_loop_iter = first


STEPPED_BATCHES = "_batches_that_stepped"
"""Key of the loggers' step count in the state of the epoch loop."""


def save_now(callback: ModelCheckpoint, trainer: L.Trainer) -> None:
    """Saves the best and the last checkpoint of this step, unless the callback has saved this step already."""
    # At the start nothing is saved yet, although Lightning counts step 0 as saved.
    if callback._last_global_step_saved != trainer.global_step or not callback._last_checkpoint_saved:
        candidates = callback._monitor_candidates(trainer)
        callback._save_topk_checkpoint(trainer, candidates)
        callback._save_last_checkpoint(trainer, candidates)


def set_mesh(strategy: ModelParallelStrategy, replicas: int, shards: int) -> None:
    """Sets the sizes of the device mesh that `setup_environment` makes."""
    strategy._data_parallel_size, strategy._tensor_parallel_size = replicas, shards


def shard_mesh(strategy: ModelParallelStrategy) -> DeviceMesh:
    """Returns the mesh to shard over: one dimension, or two with the replicas first."""
    # Lightning names the two dimensions after another use.
    return strategy.device_mesh if strategy._data_parallel_size != 1 else strategy.device_mesh["tensor_parallel"]


def bare_optimizer(optimizer: Any) -> Any:
    """Returns the optimizer inside Lightning's wrapper, or the optimizer itself."""
    return getattr(optimizer, "_optimizer", optimizer)
