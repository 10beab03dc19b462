"""A lock that lets only one run at a time write to a run folder.

Own code, because filelock's lock is inherited by forked loader processes, which may outlive a killed run, and does not
say who holds it.

A job that starts while the one before it still writes would resume from the same checkpoint and remove its files. The
lock belongs to one process of the operating system. It ends with the process in any case, and forked processes do not
hold it.
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
"""Seconds to wait for an earlier run to end.

A network file system keeps the lock of a crashed machine for a while, usually 90 seconds.
"""
HELD = (errno.EACCES, errno.EAGAIN)
UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of locking when another process holds the lock, and when locks are not supported."""


class RunLock:
    """Lock of a run folder.

    Args:
        folder: `trainer.default_root_dir`, or a callback's `dirpath`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: TextIO | None = None

    def take(self) -> None:
        """Creates the folder and locks it, waiting for an earlier run if necessary.

        Raises:
            InputError: another process holds the lock, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.taken():
                return
            rank_zero_info(
                f"{self.folder}: another run still writes there ({self._holder()}); waiting up to {WAIT:.0f} "
                "seconds for it to end"
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
            f"{self.folder}: another run writes there ({self._holder()}); wait for it to end, or give "
            "trainer.default_root_dir, or the callback's "
            f"dirpath, another folder; if its machine is gone for good, delete {self.folder / NAME}"
        )

    def taken(self) -> bool:
        """Tries to lock the folder; returns False if another process holds the lock.

        Where the file system has no locks it warns and returns True.

        Raises:
            OSError: the folder cannot be written.
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
                f"{self.folder}: its file system has no locks ({error.strerror}); make sure that only one run at a "
                "time writes there"
            )
            return True
        self._file = file
        holder = {"host": socket.gethostname(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        with suppress(OSError):  # the disk may be full; the lock itself needs no space
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{json.dumps(holder)}\n".encode())
        return True

    def alone(self) -> bool:
        """Locks an existing folder; returns False unless it is certain that no other run writes there."""
        try:
            return self.folder.is_dir() and self.taken() and self._file is not None
        except OSError:
            return False

    def release(self) -> None:
        """Releases the lock."""
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
