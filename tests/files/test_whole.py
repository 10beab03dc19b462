"""Files and folders are complete under their name, or absent, whenever their writer is killed."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mpo_lightning.files.whole import whole_file, whole_folder


def file_of_one(path: Path, killed: bool) -> None:
    with whole_file(path) as file:
        file.write("whole")
        file.flush()
        if killed:
            os._exit(9)


def file_of_several(path: Path, killed: bool) -> None:
    with whole_file(path, several_writers=True) as file:
        file.write("whole")
        file.flush()
        if killed:
            os._exit(9)


def folder(path: Path, killed: bool) -> None:
    with whole_folder(path) as partial:
        (partial / "part").write_text("whole")
        if killed:
            os._exit(9)


@pytest.mark.parametrize("write", [file_of_one, file_of_several, folder])
def test_a_killed_writer_leaves_nothing_that_the_next_one_does_not_remove(
    tmp_path: Path, write: Callable[[Path, bool], None]
) -> None:
    path = tmp_path / "output"
    process = multiprocessing.get_context("fork").Process(target=write, args=(path, True))
    process.start()
    process.join()
    assert process.exitcode == 9 and len(list(tmp_path.iterdir())) == 1 and not path.exists()
    write(path, False)
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "part" if path.is_dir() else path).read_text() == "whole"


def test_a_writer_that_lives_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "output"
    process = multiprocessing.get_context("fork").Process(target=_write_slowly, args=(path,))
    process.start()
    while not list(tmp_path.glob(".output.*.partial")):
        assert process.is_alive()
    file_of_several(path, False)
    assert path.read_text() == "whole"
    (tmp_path / "go").touch()
    process.join()
    assert process.exitcode == 0 and path.read_text() == "slow"


def _write_slowly(path: Path) -> None:
    with whole_file(path, several_writers=True) as file:
        file.write("slow")
        while not path.with_name("go").exists():
            pass
