"""Ranks that do not see the same checkpoint stop with one sentence, and all of them read the one that rank 0 chose.

torchrun --nproc_per_node 2 test_rank_agreement.py FOLDER    (in tests/runs/checkpoints)
"""

import re
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from mpo_lightning.errors import InputError
from mpo_lightning.runs.checkpoints.io import ManifestCheckpointIO
from mpo_lightning.runs.checkpoints.rank_agreement import SameCheckpoint
from support.commands import ranks

CASES: dict[str, tuple[list[str | None], str]] = {
    # what the two ranks found, and what is said
    "same": (["a", "a"], "loaded step 3 loaded step 3"),
    "other": (["a", "b"], "loaded step 3 loaded step 3"),
    "none": (
        ["a", None],
        "rank 0 resumes from .*/a and rank 1 on .* starts afresh; put trainer.default_root_dir on a disk that all",
    ),
    "afresh": ([None, "a"], "rank 0 starts afresh and rank 1 on .* resumes from .*/a; put"),
    "unseen": (["gone", "a"], "rank 0 on .* does not see .*/gone, which rank 0 chose; put"),
    "steps": (["a", "a"], "the ranks found checkpoints of different steps there \\(3, 4\\); put"),
}


def said(folder: Path, case: str) -> str:
    """What this rank says in a case."""
    rank = dist.get_rank()
    name = CASES[case][0][rank]
    path = str(folder / name) if name else None
    callback, trainer = SameCheckpoint(path), SimpleNamespace(global_rank=rank)
    try:
        callback.setup(trainer, None, "fit")
        step = ManifestCheckpointIO().load_checkpoint(path)["global_step"]
        callback.on_load_checkpoint(trainer, None, {"global_step": step + (rank if case == "steps" else 0)})
    except InputError as error:
        return str(error)
    except SystemExit:
        return ""
    return f"loaded step {step}"


@pytest.mark.slow
def test_ranks_agree_or_stop(tmp_path: Path) -> None:
    torch.save({"global_step": 3}, tmp_path / "a")
    torch.save({"global_step": 5}, tmp_path / "b")
    done = ranks(2, __file__, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    output = done.stdout
    for case, (_, words) in CASES.items():
        (line,) = re.findall(rf"^CASE {case}: (.*)$", output, re.MULTILINE)
        assert re.search(words, line) and line.count("trainer.default_root_dir") == ("put" in words), line


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    for one in CASES:
        parts: list[str] = [""] * 2
        dist.all_gather_object(parts, said(Path(sys.argv[1]), one))
        if dist.get_rank() == 0:
            print(f"CASE {one}: {' '.join(parts).strip()}", flush=True)
    dist.destroy_process_group()
