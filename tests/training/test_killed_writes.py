"""A kill at any rename of a checkpoint's write loses nothing, although the checkpoint is the only one and is written over itself."""

import os
from pathlib import Path

import pytest
import torch

from mpo_lightning.errors import InputError
from mpo_lightning.training.checkpoint_choice import find_checkpoint
from mpo_lightning.training.checkpoint_io import ManifestCheckpointIO, problem_of
from mpo_lightning.training.sharded_checkpoint import read_rest, save_sharded


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


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kills the process in front of the rename of that number; returns what was renamed by then."""
    renamed: list[str] = []
    for name in ("rename", "replace"):

        def move(source: object, target: object, *, move: object = getattr(os, name)) -> None:
            if len(renamed) == number:
                raise Killed
            renamed.append(f"{Path(source).name} -> {Path(target).name}")
            move(source, target)

        monkeypatch.setattr(os, name, move)
    return renamed


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
    assert finished or number <= 3
    # The next write is none the worse for what was left.
    save(kind, target, 3)
    assert find_checkpoint("auto", tmp_path) == str(target) and step_of(target) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".partial", ".old"))]


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
