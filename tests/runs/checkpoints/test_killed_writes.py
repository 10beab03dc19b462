"""A kill at any rename of a checkpoint's write loses nothing, although the checkpoint is the only one and is written
over itself.
"""

import errno
import os
from pathlib import Path

import pytest
import torch

from mpo_lightning.errors import InputError
from mpo_lightning.runs.checkpoints.choice import CHOSEN, find_checkpoint
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO, problem_of
from mpo_lightning.runs.checkpoints.sharded import read_rest, save_sharded


class Killed(BaseException):
    """As kill -9: nothing after it runs that the code did not put into a `finally`."""


def save(kind: str, target: Path, step: int) -> None:
    if kind == "file":
        state = {"global_step": step, "weights": torch.full((1000,), float(step)), "optimizer_states": []}
        ManifestCheckpointIO().save_checkpoint(state, target)
    else:
        save_sharded({"state_dict": {"weights": torch.full((1000,), float(step))}}, {"global_step": step}, target)


def step_of(path: Path) -> int:
    content = read_rest(path) if path.is_dir() else torch.load(path, weights_only=True)
    return int(content["global_step"])


def kill_at(
    number: int, monkeypatch: pytest.MonkeyPatch, end: BaseException | type[BaseException] = Killed
) -> list[str]:
    """Kills the process in front of the rename of that number, or lets it fail; returns what was renamed by then."""
    renamed: list[str] = []
    for name in ("rename", "replace"):

        def move(source: object, target: object, *, move: object = getattr(os, name)) -> None:
            if len(renamed) == number:
                raise end
            renamed.append(f"{Path(source).name} -> {Path(target).name}")
            move(source, target)

        monkeypatch.setattr(os, name, move)
    return renamed


RENAMES = {"file": 2, "folder": 4}
"""Of a write over an earlier checkpoint: the manifest and the file; torch's table, the manifest, the earlier folder and
its own.
"""


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_at_any_rename_leaves_one_of_the_two(
    tmp_path: Path, kind: str, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "last.ckpt"
    save(kind, target, 1)
    with monkeypatch.context() as patch:
        renamed = kill_at(number, patch)
        try:
            save(kind, target, 2)
            finished = True
        except (Killed, InputError):  # torch wraps what goes wrong under its hands
            finished = False
    with caplog.at_level("INFO"):
        assert find_checkpoint("auto", tmp_path) == str(target), renamed
    assert problem_of(target) is None and step_of(target) in ((2,) if finished else (1, 2))
    assert finished == (number >= RENAMES[kind])
    # The next write is none the worse for what was left.
    save(kind, target, 3)
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".partial", ".old"))]


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind, count in RENAMES.items() for number in range(count)]
)
def test_a_rename_that_the_disk_refuses_loses_nothing_either(
    tmp_path: Path, kind: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "last.ckpt"
    save(kind, target, 1)
    with monkeypatch.context() as patch:
        kill_at(number, patch, OSError(errno.EIO, "Input/output error"))
        with pytest.raises(InputError, match=r"cannot be written \(Input/output error\); earlier ones are intact"):
            save(kind, target, 2)
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) in (1, 2)
    save(kind, target, 3)
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) == 3


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", ["auto", "last"])
def test_other_ranks_see_what_the_first_may_bring_back(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "last.ckpt"
    save(kind, target, 1)
    target.rename(tmp_path / ".last.ckpt.partial")
    for variable in ("NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(CHOSEN, "")
    monkeypatch.setenv("RANK", "1")
    assert find_checkpoint(name, tmp_path) == str(target) and not target.exists()
    monkeypatch.setenv("RANK", "0")
    assert find_checkpoint("auto", tmp_path) == str(target) and target.exists()


def test_the_one_that_was_to_be_replaced_is_taken_where_the_new_one_is_not_whole(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    save("folder", target, 2)
    (target / "meta.pt").write_bytes(b"cut")
    target.rename(tmp_path / "new")
    save("folder", target, 1)
    target.rename(tmp_path / ".last.ckpt.old")
    (tmp_path / "new").rename(tmp_path / ".last.ckpt.partial")
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) == 1


def test_what_is_not_whole_never_gets_the_name(tmp_path: Path) -> None:
    target = tmp_path / "last.ckpt"
    save("file", target, 1)
    (tmp_path / ".last.ckpt.partial").write_bytes(target.read_bytes()[:-1])
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) == 1
