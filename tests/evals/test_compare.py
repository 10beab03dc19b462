"""Intervals and tests against another library's and enumeration."""

import json
from itertools import product
from math import comb
from pathlib import Path

import pytest
from PIL import Image

from mpo_lightning.commands.eval import compare
from mpo_lightning.errors import InputError
from mpo_lightning.evals.compare import mcnemar, sign_flip, wilson


def test_wilsons_interval_solves_its_equation() -> None:
    """Its ends p are where the share lies 1.96 standard errors of p away."""
    for right, total in ((0, 10), (3, 10), (58, 100), (1000, 1000)):
        for end in wilson(right, total):
            if 0 < end < 1:
                assert abs(right / total - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / total) ** 0.5, abs=1e-9)


def test_mcnemar_counts_all_splits_at_least_as_uneven() -> None:
    for gained, lost in ((0, 0), (1, 5), (4, 4), (10, 2)):
        total = gained + lost
        uneven = [k for k in range(total + 1) if abs(k - total / 2) >= abs(gained - total / 2)]
        assert mcnemar(gained, lost) == pytest.approx(min(1, sum(comb(total, k) for k in uneven) / 2**total))


def test_sign_flips_come_near_their_enumeration() -> None:
    differences = [0.5, 0.25, -0.25, 0.75, 0.5, 0.0]
    changed = [value for value in differences if value]
    flips = [
        abs(sum(sign * value for sign, value in zip(signs, changed, strict=True)))
        for signs in product((1, -1), repeat=len(changed))
    ]
    exact = sum(flip >= abs(sum(changed)) - 1e-12 for flip in flips) / len(flips)
    assert sign_flip(differences) == pytest.approx(exact, abs=0.02)


def write(path: Path, right: list[bool | None]) -> str:
    path.write_text("".join(json.dumps({"pid": str(number), "correct": correct}) + "\n" for number, correct in enumerate(right)))
    return str(path)


def test_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = (
        write(tmp_path / "base.jsonl", [True] * 5 + [False] * 15),
        write(tmp_path / "mpo.jsonl", [True] * 4 + [False] + [True] * 8 + [None] * 7),
    )
    compare([first, second], str(tmp_path / "comparison"))
    base, mpo = json.loads((tmp_path / "comparison.json").read_text())
    assert (base["score"], mpo["score"], mpo["gained"], mpo["lost"], mpo["difference"]) == (25.0, 60.0, 8, 1, 35.0)
    assert mpo["p"] == pytest.approx(2 * (1 + 9) / 2**9) and mpo["undecided"] == 35.0 and base["p"] is None
    assert Image.open(tmp_path / "comparison.png").size[0] == 1050
    assert "35.00" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [True])
    (tmp_path / "other.jsonl").write_text('{"pid": "9", "correct": true}\n')
    (tmp_path / "judged.jsonl").write_text('{"id": "9", "correct": null, "points": [1.0]}\n')
    with pytest.raises(InputError, match="at least two runs"):
        compare([one], str(tmp_path / "c"))
    with pytest.raises(InputError, match="no problem in common"):
        compare([one, str(tmp_path / "other.jsonl")], str(tmp_path / "c"))
    with pytest.raises(InputError, match="for a benchmark without a judge"):
        compare([one, str(tmp_path / "judged.jsonl")], str(tmp_path / "c"))
    with pytest.raises(InputError, match="cannot be read"):
        compare([one, str(tmp_path / "none.jsonl")], str(tmp_path / "c"))
