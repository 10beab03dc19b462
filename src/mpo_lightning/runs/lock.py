"""One run at a time writes into a run folder: a job that starts while the one before it still writes would go on from
the same checkpoint, and tidy up under its hands.

The lock is the system's, of one process: it ends with the process, however that ends, and processes that it has forked
do not have it.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mpo_lightning.errors import InputError

NAME = ".lock"
WAIT = 120.0
"""Seconds in which a run before this one may still end; a network file system keeps the lock of a machine that crashed
for as long, as a rule for 90.
"""
HELD = (errno.EACCES, errno.EAGAIN)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What locking says where another process has the lock, and where there are no locks."""


class RunLock:
    """Of a run folder.

    Args:
        folder: `trainer.default_root_dir`, or a callback's `dirpath`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: TextIO | None = None

    def take(self) -> None:
        """Makes the folder and locks it, after a while if need be.

        Raises:
            InputError: another process has the lock, or nothing can be written there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.taken():
                return
            rank_zero_info(
                f"{self.folder}: another run still writes there ({self._holder()}); waiting {WAIT:.0f} seconds for "
                "its end"
            )
            end = time.monotonic() + WAIT
            while time.monotonic() < end:
                time.sleep(0.5)
                if self.taken():
                    return
        except OSError as error:
            raise InputError(
                f"{self.folder}: nothing can be written there ({error.strerror}); give trainer.default_root_dir, or "
                "the callback's dirpath, another folder"
            ) from None
        raise InputError(
            f"{self.folder}: another run writes there ({self._holder()}); wait for its end, or give "
            "trainer.default_root_dir, or the callback's "
            f"dirpath, another folder; if its machine is gone for good, delete {self.folder / NAME}"
        )

    def taken(self) -> bool:
        """Locks it unless another process has it; also where the file system knows no locks.

        Raises:
            OSError: nothing can be written there.
        """
        if self._file is not None:
            return True
        file = (self.folder / NAME).open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in HELD:
                return False
            if error.errno not in UNKNOWN:
                raise
            rank_zero_warn(
                f"{self.folder}: its file system has no locks ({error.strerror}); see to it that one run at a time "
                "writes there"
            )
            return True
        self._file = file
        holder = {"host": socket.gethostname(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        with suppress(OSError):  # a full disk; the lock needs no room
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{json.dumps(holder)}\n".encode())
        return True

    def alone(self) -> bool:
        """Whether it is known that no run writes there now, and this process may; locked then."""
        try:
            return self.folder.is_dir() and self.taken() and self._file is not None
        except OSError:
            return False

    def release(self) -> None:
        """For the next one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _holder(self) -> str:
        try:
            told = json.loads((self.folder / NAME).read_text(encoding="utf-8"))
            job = f", job {told['job']}" if told["job"] else ""
            return f"process {told['process']} on {told['host']}{job}"
        except (OSError, ValueError, KeyError, TypeError):
            return "process unknown"


def lock_all(folders: Sequence[Path]) -> tuple[RunLock, ...]:
    """Locks for the folders of a run, taken in order; none is held if one cannot be taken.

    Raises:
        InputError: see `RunLock.take`.
    """
    locks = tuple(map(RunLock, folders))
    try:
        for lock in locks:
            lock.take()
    except InputError:
        for lock in locks:
            lock.release()
        raise
    return locks
