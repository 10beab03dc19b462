"""Signals that ask a run to stop (SIGTERM, Ctrl-C) or to make way (SLURM's, before a time limit), taken between steps
by all ranks together.

Lightning acts inside the handler, in the middle of whatever the process computes, with collectives that the other ranks
do not expect there. Here the handler only notes the signal; in front of every step (and after every validation batch)
the ranks tell each other.
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


class Stop:
    """Of an exception that ends a run between two steps, where a checkpoint may be written."""


class StopByTerm(Stop, SIGTERMException):
    """SIGTERM."""


class StopByInterrupt(Stop, KeyboardInterrupt):
    """Ctrl-C."""


class StopSignals:
    """Notes signals of this process, and asks all ranks for theirs.

    Args:
        trainer: of the run.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.received: set[int] = set()
        self._interrupts = 0
        environment = trainer._accelerator_connector.cluster_environment
        self.requeue_signal = (
            environment.requeue_signal if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
        )
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (signal.SIGTERM, signal.SIGINT, self.requeue_signal)):
                # Lightning puts back what was there before the run.
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            raise KeyboardInterrupt  # asked twice: now, and without a checkpoint, since a step may be half done
        self.received.add(number)

    def of_any_rank(self) -> int:
        """The signal that any rank got, or 0: SLURM's before SIGTERM, which it sends soon after, and that before
        Ctrl-C; every rank calls this.
        """
        order = (0, signal.SIGINT, signal.SIGTERM, self.requeue_signal or 0)
        mine = torch.tensor(max(map(order.index, self.received), default=0), device=self.trainer.strategy.root_device)
        found: Tensor = self.trainer.strategy.reduce(mine, reduce_op="max")
        return order[int(found)]

    def requeue(self) -> bool:
        """Puts the SLURM job back into the queue; whether that worked. Every rank calls this."""
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
