"""One run at a time writes into a folder; and what cannot be seen is not taken for nothing."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.runs import lock as run_lock
from mpo_lightning.runs.checkpoints.choice import CHOSEN, find_checkpoint
from mpo_lightning.runs.folder import files_below
from mpo_lightning.runs.lock import RunLock
from support.processes import members, started

HOLDER = """
import multiprocessing, pathlib, sys, time
from mpo_lightning.runs.lock import RunLock
lock = RunLock(pathlib.Path(sys.argv[1]))
lock.take()
worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
worker.start()
print(worker.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN, "")


def test_the_lock_is_of_one_process_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "WAIT", 1.0)
    run = tmp_path / "run"
    with started(sys.executable, "-c", HOLDER, str(run), stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        lock = RunLock(run)
        assert not lock.alone()
        with pytest.raises(
            InputError, match=rf"run: another run writes there \(process {process.pid} on .*trainer\.default_root_dir"
        ):
            lock.take()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        assert worker in members(process)  # its own, which has the file open
        lock.take()
        lock.release()
    assert lock.alone() and RunLock(tmp_path / "none").alone() is False and not (tmp_path / "none").exists()
    lock.release()


def test_where_nothing_can_be_written_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: nothing can be written there \(Not a directory"):
        RunLock(tmp_path / "file" / "run").take()


def test_a_file_system_without_locks_is_named_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "lockf", unknown)
    with pytest.warns(UserWarning, match="no locks"):
        RunLock(tmp_path).take()
    with pytest.warns(UserWarning, match="no locks"):
        assert not RunLock(tmp_path).alone()  # nobody knows


def test_the_lock_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_lock.os, "write", full)
    lock = RunLock(tmp_path)
    lock.take()
    assert lock.alone() and (tmp_path / ".lock").read_text() == ""
    lock.release()


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "lost+found").mkdir()
    scan = os.scandir

    def refused(path: str) -> object:
        if Path(path).name in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    assert list(files_below(tmp_path, "*.ckpt")) == [] and find_checkpoint("auto", tmp_path) is None
    names = ["lost+found"]
    monkeypatch.setattr(os, "scandir", refused)
    assert find_checkpoint("auto", tmp_path) is None
    names.append("version_0")
    with pytest.raises(InputError, match=r"version_0: cannot read the folder \(Permission denied"):
        find_checkpoint("auto", tmp_path)


@pytest.mark.parametrize("name", ["version_3", "version_0/checkpoints"])
def test_a_link_to_a_disk_that_is_not_there_is_no_fresh_start(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/nowhere/run")
    with pytest.raises(InputError, match=f"{name} is a link to a folder that is not there"):
        find_checkpoint("auto", tmp_path)
