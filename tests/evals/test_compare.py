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
                assert abs(right / total - end) == pytest.approx(
                    1.959963984540054 * (end * (1 - end) / total) ** 0.5, abs=1e-9
                )


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
    path.write_text(
        "".join(json.dumps({"pid": str(number), "correct": correct}) + "\n" for number, correct in enumerate(right))
    )
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
    with pytest.raises(InputError, match="compare runs of the same benchmark"):
        compare([one, str(tmp_path / "judged.jsonl")], str(tmp_path / "c"))
    with pytest.raises(InputError, match="cannot be read"):
        compare([one, str(tmp_path / "none.jsonl")], str(tmp_path / "c"))


def write_rows(path: Path, benchmark: str, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.with_suffix(".table.json").write_text(json.dumps({"benchmark": benchmark}))
    return str(path)


def test_a_judges_points_are_paired(tmp_path: Path) -> None:
    """Of LLaVA-Bench the model's own, the last of the pair; with 12 changes in one direction no flip of signs is as far
    but the two extremes.
    """
    for name, model in (("base", 5.0), ("mpo", 6.0)):
        write_rows(
            tmp_path / f"{name}.jsonl", "llava_bench",
            [{"question_id": place, "correct": None, "points": [8.0, model + place % 2]} for place in range(12)],
        )  # fmt: skip
    compare([str(tmp_path / "base.jsonl"), str(tmp_path / "mpo.jsonl")], str(tmp_path / "c"))
    base, mpo = json.loads((tmp_path / "c.json").read_text())
    assert (base["score"], mpo["score"], mpo["difference"], mpo["gained"], mpo["lost"]) == (5.5, 6.5, 1.0, 12, 0)
    assert mpo["p"] < 0.003 and mpo["number"] == "the model's points, 1 to 10"


def test_crpes_questions_count_whole_and_popes_number_is_named(tmp_path: Path) -> None:
    for name, wrong in (("one", 7), ("two", 2)):
        write_rows(
            tmp_path / f"{name}.jsonl", "crpe", [{"id": f"r/{place}", "correct": place != wrong} for place in range(12)]
        )
        write_rows(
            tmp_path / f"{name}.pope.jsonl",
            "pope",
            [{"id": str(place), "correct": place != wrong} for place in range(12)],
        )
    compare([str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")], str(tmp_path / "c"))
    one, two = json.loads((tmp_path / "c.json").read_text())
    assert one["problems"] == 3 and one["score"] == pytest.approx(200 / 3) and (two["gained"], two["lost"]) == (1, 1)
    compare([str(tmp_path / "one.pope.jsonl"), str(tmp_path / "two.pope.jsonl")], str(tmp_path / "d"))
    assert json.loads((tmp_path / "d.json").read_text())[0]["number"] == "accuracy, %"
