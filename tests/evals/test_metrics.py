"""torchmetrics: the table of all responses, whatever the number of processes and whatever is repeated."""

import copy
import doctest
import json
from pathlib import Path

import pytest

from mpo_lightning.evals import CRPE, POPE, M3CoT, MathVista, MMVet, metrics
from support.commands import ranks

PROBLEMS = [
    {
        "pid": str(number),
        "question_type": "free_form",
        "answer_type": "integer",
        "answer": str(number),
        "task": "ab"[number % 2],
        "choices": None,
    }
    for number in range(7)
]
SAID = ["0", "2", "2", "no idea", "4", "Final answer: 5", "7"]

RANK = """
import json, sys
import torch.distributed as dist
from mpo_lightning.evals import MathVista

dist.init_process_group("gloo")
rank, problems, said = dist.get_rank(), *json.loads(open(sys.argv[1]).read())
metric = MathVista(problems)
# Seven over two processes: the second repeats the first problem, as a distributed sampler does.
for number in range(rank, 8, 2):
    metric.update([said[number % 7]], [problems[number % 7]["pid"]])
print(json.dumps({name: float(value) for name, value in metric.compute().items()}))
dist.barrier()
dist.destroy_process_group()
"""


def test_the_table_is_that_of_all_responses() -> None:
    metric = MathVista(PROBLEMS)
    metric.update(SAID[:3], [row["pid"] for row in PROBLEMS[:3]])
    metric.update(SAID[3:], [row["pid"] for row in PROBLEMS[3:]])
    found = {name: float(value) for name, value in metric.compute().items()}
    # Right: 0, 2, 4, 5. Even problems (a) 0 2 4 6: three of four; odd ones (b) 1 3 5: one of three.
    assert (
        found["accuracy"] == pytest.approx(400 / 7)
        and found["task/a"] == 75
        and found["task/b"] == pytest.approx(100 / 3)
    )
    assert found["coverage"] == pytest.approx(600 / 7)
    metric.reset()
    metric.update(SAID[:1], ["0"])
    assert float(metric.compute()["accuracy"]) == 100


def test_repeated_responses_count_once_and_samples_each() -> None:
    metric = M3CoT([{"id": "q", "choices": ["x", "y"], "answer": "A"}])
    metric.update(["A", "A"], ["q", "q"])
    assert metric.table().rows[0].total == 1
    metric.update(["B", "A"], ["q", "q"], samples=[1, 2])
    assert metric.table().rows[0].total == 3 and float(metric.compute()["accuracy"]) == pytest.approx(200 / 3)


def test_scores_that_are_there_count_at_once() -> None:
    metric = M3CoT([{"id": "q", "choices": ["x", "y"], "answer": "A"}])
    for sample, (text, expected) in enumerate((("A", 100), ("B", 50))):
        metric.update_scores([metric.benchmark.score(metric.problems[0], text, "robust")], [0], [sample])
        assert float(metric.compute()["accuracy"]) == expected


def test_two_processes_have_the_table_of_one(tmp_path: Path) -> None:
    one = MathVista(PROBLEMS)
    one.update(SAID, [row["pid"] for row in PROBLEMS])
    expected = {name: float(value) for name, value in one.compute().items()}
    (tmp_path / "rank.py").write_text(RANK)
    (tmp_path / "rows.json").write_text(json.dumps([PROBLEMS, SAID]))
    done = ranks(2, str(tmp_path / "rank.py"), tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == 2 and all(one == pytest.approx(expected) for one in found)


def test_groups_across_updates_and_judged_ones() -> None:
    crpe = CRPE(
        [
            {"id": str(place), "group": "g", "category": "subject", "correct_option": "A", "text": "Q\nA. x\nB. y"}
            for place in range(4)
        ]
    )
    for place in (2, 0, 3, 1):
        crpe.update(["A"], [str(place)])
    assert float(crpe.compute()["relation mean"]) == 100
    pope = POPE([{"id": "1", "label": "yes", "category": "random"}, {"id": "2", "label": "no", "category": "random"}])
    pope.update(["Yes", "Yes"], ["1", "2"])
    assert float(pope.compute()["mean F1"]) == pytest.approx(200 / 3)
    vet = MMVet([{"id": "v", "capability": ["ocr"]}])
    vet.update(["whatever"], ["v"], judged=[{"judge_raw": ["0.5", "0.7"]}])
    assert float(vet.compute()["total"]) == pytest.approx(60) and "coverage" not in vet.compute()


def test_nothing_yet_is_a_table_of_nothing() -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert float(MathVista(PROBLEMS).compute()["accuracy"]) == 0


def test_a_copy_goes_on_where_it_was() -> None:
    metric = MathVista(PROBLEMS)
    metric.update(SAID[:3], ["0", "1", "2"])
    restored = copy.deepcopy(metric)
    restored.update(SAID[3:], ["3", "4", "5", "6"])
    assert float(restored.compute()["accuracy"]) == pytest.approx(400 / 7)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(metrics).failed == 0 and doctest.testmod(metrics).attempted == 3
