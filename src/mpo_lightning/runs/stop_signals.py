"""Stop signals (SIGTERM, Ctrl-C) and SLURM's signal before a time limit, handled between steps by all ranks together.

Lightning acts inside the handler, in the middle of any computation, with collectives that other ranks do not expect.
Here the handler only notes the signal. Ranks exchange their signals before every step and after every validation batch.
"""

import os
import signal
import subprocess
import threading
from types import FrameType

import lightning as L
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from mpo_lightning.runs.lightning_internals import cluster_environment


class Stop:
    """Base of exceptions that end a run between two steps, where a checkpoint may be written."""


class StopByTerm(Stop, SIGTERMException):
    """The run was stopped by SIGTERM."""


class StopByInterrupt(Stop, KeyboardInterrupt):
    """The run was stopped by Ctrl-C."""


class StopSignals:
    """Notes this process's signals and combines those of all ranks.

    Args:
        trainer: trainer of the run.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.received: set[int] = set()
        self._interrupts = 0
        environment = cluster_environment(trainer)
        self.requeue_signal = (
            environment.requeue_signal
            if isinstance(environment, SLURMEnvironment) and environment.auto_requeue
            else None
        )
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (signal.SIGTERM, signal.SIGINT, self.requeue_signal)):
                # Lightning restores the earlier handlers after the run.
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt  # second Ctrl-C: stop now, without a checkpoint, since a step may be half done
        self.received.add(number)

    def of_any_rank(self) -> int:
        """Returns the most urgent signal that any rank received, or 0; every rank calls this.

        SLURM's signal comes first, because SIGTERM follows it soon, then SIGTERM, then Ctrl-C.
        """
        order = (0, signal.SIGINT, signal.SIGTERM, self.requeue_signal or 0)
        mine = torch.tensor(max(map(order.index, self.received), default=0), device=self.trainer.strategy.root_device)
        found: Tensor = self.trainer.strategy.reduce(mine, reduce_op="max")
        return order[int(found)]

    def requeue(self) -> bool:
        """Requeues the SLURM job and returns whether that worked; every rank calls this."""
        done = False
        if self.trainer.is_global_zero:
            array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
            job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
            try:
                done = subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
            except OSError as error:
                rank_zero_warn(f"scontrol cannot be run ({error.strerror})")
        done = self.trainer.strategy.broadcast(done)
        self.received.discard(self.requeue_signal or 0)
        return done
