"""How far our decisions agree with the published ones, on real outputs of real models; the bar of docs/checker.md.

The outputs are not part of the repository; without them these tests skip.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mpo_lightning.evals.benchmark import Mode
from mpo_lightning.evals.files import read_rows
from mpo_lightning.evals.registry import all_benchmarks
from mpo_lightning.evals.scoring import Scored, join, score_rows


@pytest.fixture(scope="session")
def outputs(root: Path) -> Path:
    folder = root.parent / "shared" / "evals"
    if not folder.is_dir():
        pytest.skip("the published outputs (../shared/evals) are not on this machine")
    return folder


def scored(outputs: Path, name: str, file: str, mode: Mode, problems: str | None = None) -> Scored:
    benchmark = all_benchmarks()[name]
    known = benchmark.load(outputs / problems) if problems else None
    return score_rows(benchmark, join(benchmark, read_rows(outputs / file), known, outputs / file), mode)


def decisions(result: Scored) -> list[bool]:
    return [score.verdict.correct is True for score in result.scores]


def test_mathvista_robust(outputs: Path) -> None:
    result = scored(outputs, "mathvista", "mathvista/mathvista_responses.jsonl", "robust")
    counts: Counter[tuple[bool, bool]] = Counter()
    for row, right in zip(result.rows, decisions(result), strict=True):
        if row["response"] and not row["nearest_choice_fallback"] and not row["label_suspect"]:
            counts[right, row["official_true_false"]] += 1
    total = sum(counts.values())
    assert total == 2876
    assert (counts[True, True] + counts[False, False]) / total >= 0.97
    assert counts[True, False] / (counts[True, False] + counts[False, False]) <= 0.015
    assert counts[False, True] / (counts[False, True] + counts[True, True]) <= 0.07


def test_mathvista_official_given_the_published_extraction(outputs: Path) -> None:
    """The file of llavar was made by a later script, which takes "1.0" for 1; the others by that of 2023."""
    benchmark = all_benchmarks()["mathvista"]
    file = outputs / "mathvista/mathvista_responses.jsonl"
    rows = [
        row | {"normaliser": "2025" if row["model"] == "llavar" else "2023"}
        for row in join(benchmark, read_rows(file), None, file)
    ]
    assert decisions(score_rows(benchmark, rows, "official")) == [row["official_true_false"] for row in rows]


def test_mathvistas_table_has_the_published_shape(outputs: Path) -> None:
    """By counts; of the latest published table, since skills were annotated anew after the earlier ones.

    What is now "not applicable" was "daily life".
    """
    published = json.loads((outputs / "mathvista/official_scores.json").read_text())["llavar"]
    problems = all_benchmarks()["mathvista"].load(outputs / "mathvista/mathvista_testmini_problems.jsonl")
    rows = [
        problem | {"response": str(problem["answer"]), "extraction": str(problem["answer"])} for problem in problems
    ]
    ours = score_rows(all_benchmarks()["mathvista"], rows, "official").table
    for group, parts in published.items():
        if group != "average":
            assert sorted(numbers["total"] for numbers in parts.values()) == sorted(
                row.total for row in ours.rows if row.group == group
            )
    # Two right answers look like another option's letter in brackets.
    assert ours.rows[0].total == published["average"]["total"] and ours.rows[0].correct == 998


def test_mathvision_official(outputs: Path) -> None:
    result = scored(outputs, "mathvision", "mathvision/mathvision_responses.jsonl", "official")
    agree = [right == row["official_correct"] for row, right in zip(result.rows, decisions(result), strict=True)]
    assert sum(agree) / len(agree) >= 0.985
    extracted = [
        score.verdict.extraction[:120] == row["official_model_answer"][:120]
        for row, score in zip(result.rows, result.scores, strict=True)
    ]
    assert sum(extracted) / len(extracted) >= 0.985


def test_m3cot_official(outputs: Path) -> None:
    result = scored(outputs, "m3cot", "m3cot/m3cot_responses.jsonl", "official")
    assert decisions(result) == [row["official_correct"] for row in result.rows]


def test_equality_of_other_suites_pairs(outputs: Path) -> None:
    result = scored(outputs, "equivalence", "math_equivalence/math_equivalence.jsonl", "robust")
    agree = [
        (right == row["equivalent"], row["source"]) for row, right in zip(result.rows, decisions(result), strict=True)
    ]
    assert sum(right for right, _ in agree) / len(agree) >= 0.95
    others = [right for right, source in agree if not source.startswith("math-verify")]
    assert sum(others) / len(others) >= 0.82


@pytest.mark.parametrize("mode", ["official", "robust"])
def test_popes_table(outputs: Path, mode: Mode) -> None:
    result = scored(outputs, "pope", "pope/pope_llava_v1_5_7b_adversarial.jsonl", mode)
    published = json.loads((outputs / "pope/official_scores.json").read_text())["adversarial"]
    ours = result.table.flat()
    for name in ("accuracy", "precision", "recall"):
        assert ours[f"adversarial/{name}"] == pytest.approx(100 * published[name], abs=1e-9)
    assert ours["adversarial/F1"] == pytest.approx(100 * published["f1"]) and ours["adversarial/yes"] == pytest.approx(
        100 * published["yes_ratio"]
    )
    assert [ours[f"adversarial/{name}"] for name in ("TP", "FP", "TN", "FN")] == [
        published[name] for name in ("TP", "FP", "TN", "FN")
    ]
    assert [score.verdict.prediction for score in result.scores] == [row["official_pred"] for row in result.rows]


def test_mm_vets_table(outputs: Path) -> None:
    result = scored(outputs, "mmvet", "mmvet/mmvet_llava_v1_5_7b.jsonl", "official")
    published: dict[str, Any] = json.loads((outputs / "mmvet/official_scores.json").read_text())
    ours = {name: f"{score:.1f}" for name, score in result.table.flat().items()}
    for name in ("rec", "ocr", "know", "gen", "spat", "math"):
        assert ours[f"capability/{name}"] == published["capability"][name]
    assert (ours["total"], ours["std"]) == (published["capability"]["total"], published["capability"]["std"])
    assert [ours[f"run/{run}"] for run in "123"] == published["capability"]["runs"].strip("[]").split(", ")
    for name, score in published["capability_integration"].items():
        if name not in ("total", "std", "runs"):
            assert ours["integration/" + "_".join(sorted(name.split("_")))] == score
    assert [list(score.values) for score in result.scores] == [pytest.approx(row["judge_score"]) for row in result.rows]


def test_llava_benchs_table(outputs: Path) -> None:
    result = scored(outputs, "llava_bench", "llava_bench/llava_bench_reviews_7b.jsonl", "official")
    ours = {name: f"{score:.1f}" for name, score in result.table.flat().items()}
    for run in json.loads((outputs / "llava_bench/official_scores.json").read_text()):
        for part in ("all", "llava_bench_conv", "llava_bench_detail", "llava_bench_complex"):
            group = f"run {run['run']} {part.removeprefix('llava_bench_')}"
            assert [ours[f"{group}/{name}"] for name in ("relative score", "reference", "model")] == [
                str(run[part][name]) for name in ("relative", "reference", "model")
            ]
    assert [list(score.values) for score in result.scores] == [row["official_tuple"] for row in result.rows]
