"""What benchmarks/miniature makes of scores, by hand arithmetic; nothing is chosen on the test problems."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from miniature.cells import CONDITIONS, Base, Cell, condition_cells  # noqa: E402
from miniature.commands import done  # noqa: E402
from miniature.loop import Study  # noqa: E402
from miniature.report import conditions_table, summary_table  # noqa: E402
from miniature.results import cells_in, curve, finished, shifts, stages  # noqa: E402
from miniature.settings import beyond, choose, chosen_settings  # noqa: E402
from miniature.study import METHODS, REDUCED, Setting, Size, cell_commands, exported, home_of, sweep  # noqa: E402
from miniature.summary import summary  # noqa: E402

from mpo_lightning.evals.compare import Run  # noqa: E402
from support.commands import ranks  # noqa: E402

CELL = Cell(Base(0), 0)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content) + "\n")


def test_settings_are_chosen_on_the_validation_problems_alone(tmp_path: Path) -> None:
    settings = sweep(Size(rates=(1e-5, 1e-4), betas=(0.1, 1.0)))
    best = {method: Setting(method, 1e-5, 0.1 if method == "SFT" else 1.0) for method in METHODS}
    write(tmp_path / "base-0/validation/scores.table.json", {"score": 51.0})
    for setting in settings:
        # On the test problems another one would be the best.
        test = 90.0 if setting.rate == 1e-4 else 10.0
        write(tmp_path / home_of(CELL, setting) / "greedy/scores.table.json", {"score": test})
        # Equals: of them the smaller rate, and then the larger beta, is taken.
        score = 50.0 if setting.rate == 1e-4 and setting.beta == 0.1 and setting.method != "SFT" else 60.0
        write(tmp_path / home_of(CELL, setting) / "validation/scores.table.json", {"score": score})
    assert chosen_settings(tmp_path, CELL) == {}
    choose(tmp_path, CELL, settings)
    assert chosen_settings(tmp_path, CELL) == best
    assert chosen_settings(tmp_path, Cell(Base(1), 2)) == chosen_settings(tmp_path, Cell(Base(0), 0, "close")) == best
    assert chosen_settings(tmp_path, Cell(Base(0), 0, "cool")) == {}


def test_pair_sets_of_a_condition_take_over_the_settings_of_its_first(tmp_path: Path) -> None:
    even = Cell(Base(0, even=True), 0, "even")
    write(tmp_path / even.base.name / "validation/scores.table.json", {"score": 20.0})
    for method in METHODS:
        write(tmp_path / home_of(even, Setting(method, 1e-4, 0.1)) / "validation/scores.table.json", {"score": 50.0})
    choose(tmp_path, even, sweep(Size(rates=(1e-4,), betas=(0.1,))))
    others = [cell for cell in condition_cells() if cell.condition.even]
    assert [cell.name for cell in others] == ["cell-0-even-0", "cell-0-even-1", "cell-0-even-2"]
    assert all(
        chosen_settings(tmp_path, cell) == {method: Setting(method, 1e-4, 0.1) for method in METHODS} for cell in others
    )
    assert chosen_settings(tmp_path, CELL) == {}


def test_a_part_of_the_sweep_and_the_whole() -> None:
    size = Size(rates=(1.0, 2.0, 3.0), betas=(0.1, 0.5))
    assert len(sweep(size)) == 4 * 6 + 3 and len(sweep(size, part=True)) == 4 * 2 + 2
    assert {(one.rate, one.beta) for one in sweep(size, part=True)} == {(2.0, 0.1), (3.0, 0.1)}
    assert sweep(REDUCED) == sweep(REDUCED, part=True) and len(sweep(REDUCED)) == len(METHODS)


def test_a_sweep_goes_on_where_the_best_lies_at_an_edge() -> None:
    tried = sweep(Size(rates=(1e-5, 3e-5, 1e-4), betas=(0.1, 1.0, 8.0)))
    inside = [Setting(method, 3e-5, 0.1 if method == "SFT" else 1.0) for method in METHODS]
    assert beyond(tried, inside) == []
    rest = inside[2:]
    corner = beyond(tried, [Setting("SFT", 1e-4, 0.1), Setting("DPO", 1e-5, 0.1), *rest])
    assert corner == [Setting("SFT", 3e-4, 0.1), Setting("DPO", 3e-6, 0.1), Setting("DPO", 1e-5, 0.01)]
    # Around a setting that was tried beyond the edge nothing else was yet.
    further = beyond([*tried, *corner], [inside[0], Setting("DPO", 1e-5, 0.01), *rest])
    assert further == [Setting("DPO", 3e-6, 0.01), Setting("DPO", 3e-5, 0.01), Setting("DPO", 1e-5, 0.001)]
    one = sweep(REDUCED)
    assert beyond(one, one) == []


def test_differences_over_cells_by_hand() -> None:
    base, sft, mpo = (
        {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0},
        {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0},
        {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0},
    )
    first = {name: Run(name, right, 0.0) for name, right in {"base": base, "SFT": sft, "MPO": mpo}.items()}
    second = {name: Run(name, base, 0.0) for name in first}
    rows = {row["name"]: row for row in summary([first, second])}
    assert rows["base"] == {"name": "base", "score": 50.0}
    # Of SFT over base: 25 points in one cell and 0 in the other; a problem's mean is 50, 0, 0, 0, so the deviation is
    # 25, and 1.96 * 25 / 2 = 24.5.
    found = rows["SFT"]["over_base"]
    assert (found["mean"], found["least"], found["most"]) == (12.5, 0.0, 25.0)
    assert (found["low"], found["high"]) == (pytest.approx(12.5 - 24.5, abs=0.01), pytest.approx(12.5 + 24.5, abs=0.01))
    assert (found["above"], found["below"]) == (0, 0) and "over_sft" not in rows["SFT"]
    assert rows["MPO"]["over_sft"]["mean"] == 0.0
    assert "+12.5 (-12.0 to +37.0)" in summary_table(list(rows.values()))


def test_cells_that_are_clearly_above_and_below_are_counted() -> None:
    names = [str(number) for number in range(20)]
    runs = [
        {"base": Run("base", dict.fromkeys(names, 1.0 - to), 0.0), "SFT": Run("SFT", dict.fromkeys(names, to), 0.0)}
        for to in (1.0, 1.0, 0.0)
    ]
    found = summary(runs)[1]["over_base"]
    assert (found["above"], found["below"]) == (2, 1) and "above" not in summary(runs, tested=False)[1]["over_base"]


def test_shifts_are_in_nats(tmp_path: Path) -> None:
    # Rewards are beta, 0.1, times the shift; of several starts the last one counts, also past the ninth.
    rows = [{"reward_chosen": 0.1, "reward_rejected": -0.3}, {"reward_chosen": 0.3, "reward_rejected": 0.1}]
    write(tmp_path / "version_10/scores-0.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "version_9/scores-0.jsonl", json.dumps({"reward_chosen": 9, "reward_rejected": 9}) + "\n")
    assert shifts(tmp_path) == {"shift_chosen": pytest.approx(2.0), "shift_rejected": pytest.approx(-1.0)}


def test_a_curve_goes_over_all_starts_of_a_run(tmp_path: Path) -> None:
    write(tmp_path / "version_0/metrics.csv", "step,train/logps_chosen,train/margin\n0,-9,0.1\n1,-8,0.2\n2,-7,0.3\n")
    write(
        tmp_path / "version_1/metrics.csv", "step,train/logps_chosen,train/margin,other\n2,-6,0.4,\n3,-5,0.5,1\n3,,,2\n"
    )
    assert curve(tmp_path) == {"chosen": [-9.0, -8.0, -6.0, -5.0], "margin": [0.1, 0.2, 0.4, 0.5]}


def test_a_cell_is_finished_when_every_result_is_there(tmp_path: Path) -> None:
    settings = [Setting(method, 1e-4, 0.1) for method in METHODS]
    rows = [vars(setting) | {"validation": 50.0, "chosen": True} for setting in settings]
    write(tmp_path / CELL.name / "sweep.json", {"cell": CELL.name, "base": 50.0, "settings": rows})
    assert not finished(tmp_path, CELL, REDUCED)
    for setting in settings:
        write(tmp_path / home_of(CELL, setting) / "version_0/export/model.safetensors", "weights")
    for part in ("base-0/fit/version_0/export", "base-0/fit/version_1/export"):
        write(tmp_path / part / "model.safetensors", "weights")
    assert exported(tmp_path / "base-0/fit") == tmp_path / "base-0/fit/version_1/export"
    commands = cell_commands(tmp_path, CELL, chosen_settings(tmp_path, CELL), REDUCED)
    assert len(commands) == 5 * 4
    for command in commands:
        assert not finished(tmp_path, CELL, REDUCED)
        write(tmp_path / command.result.replace("*", "0"), "done")
        assert done(tmp_path, command)
    assert finished(tmp_path, CELL, REDUCED) and cells_in(tmp_path) == [CELL]


def test_a_line_that_a_kill_cut_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "stages.jsonl", '{"stage": "base", "seconds": 1.0}\n{"stage": "pa')
    assert stages(tmp_path) == [{"stage": "base", "seconds": 1.0}]


def test_conditions_stand_beside_their_controls() -> None:
    names = {cell.name_of_condition for cell in condition_cells()}
    assert all(condition.control in {*names, ""} for condition in CONDITIONS.values())
    rows = [
        {"name": name, "greedy": 50.0, "over_base": 1.0, "p_base": 0.5, "over_sft": -1.0, "p_sft": 0.5}
        for name in ("base", "MPO")
    ]
    cell = {"rows": rows, "pair_statistics": {"correctness": {"pairs": 7}}, "curves": {"MPO": {"chosen": [0.0] * 3}}}
    other = {
        "condition": "far",
        "rows": rows,
        "pair_statistics": {},
        "steps": 2,
        "control": "close",
        "beside_control": {"difference": -1.6, "p": 0.04},
    }
    table = conditions_table({"cells": [cell], "conditions": [other]})
    assert "| as above | 7 | 3 | 50.0 | 50.0 |" in table and "-1.6 (p = 0.04), close" in table


def test_a_folder_is_of_one_size(tmp_path: Path) -> None:
    Study(tmp_path / "study", REDUCED, 2)
    Study(tmp_path / "study", REDUCED, 1)
    with pytest.raises(SystemExit, match="holds a study of another size"):
        Study(tmp_path / "study", Size(), 2)
    (tmp_path / "study/size.json").write_text('{"cut')
    with pytest.raises(SystemExit, match=r"size\.json: cannot be read .* delete it"):
        Study(tmp_path / "study", REDUCED, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bases", "0"], "argument --bases: '0' is not a whole number of at least 1"),
        (["--pair-sets", "-1"], "argument --pair-sets"),
        (["--at-once", "x"], "argument --at-once"),
        (["--output", "setup.cfg"], "--output setup.cfg: is a file; name a folder"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "setup.cfg").touch()
    ended = ranks(1, str(ROOT / "benchmarks/miniature.py"), *options, cwd=tmp_path)
    assert ended.returncode and said in ended.stderr and "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["setup.cfg"]
