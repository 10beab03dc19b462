"""Tables by hand arithmetic; loading of official files; prompts word by word."""

import json
from pathlib import Path

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmarks import mmhal, pope
from mpo_lightning.evals.published import published
from mpo_lightning.evals.registry import all_benchmarks
from mpo_lightning.evals.scoring import score_rows


def table(name: str, rows: list[dict], values: list[list[float]]) -> dict[str, float]:
    return all_benchmarks()[name].table(rows, values).flat()


def test_a_problem_counts_in_each_of_its_skills() -> None:
    rows = [{"task": "a", "skills": ["x", "y"]}, {"task": "b", "skills": ["y"]}, {"task": "b", "skills": []}]
    found = table("mathvista", rows, [[1.0], [0.0], [1.0]])
    assert found == {"accuracy": pytest.approx(200 / 3), "task/a": 100, "task/b": 50, "skills/x": 100, "skills/y": 50}


def test_mathvision_by_subject_and_level() -> None:
    rows = [{"subject": "algebra", "level": 1}, {"subject": "algebra", "level": 2}]
    found = table("mathvision", rows, [[1.0], [0.0]])
    assert (
        found["subject/algebra"] == 50 and found["level/level1"] == 100 and found["subject_level/algebra_level2"] == 0
    )


def test_pope_means_of_splits_and_pooled() -> None:
    """Random: TP 1, FN 1, FP 0, TN 2 (F1 2/3).

    Popular: TP 2, FP 1, TN 0, FN 0 (F1 4/5). Pooled: TP 3, FP 1, FN 1 (F1 3/4).
    """
    rows = [{"category": "random", "label": label} for label in ("yes", "yes", "no", "no")]
    rows += [{"category": "popular", "label": label} for label in ("yes", "yes", "no")]
    found = table("pope", rows, [[1.0], [0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
    assert found["mean F1"] == pytest.approx(100 * (2 / 3 + 4 / 5) / 2) and found["pooled F1"] == pytest.approx(75)
    assert found["random/precision"] == 100 and found["random/recall"] == 50 and found["popular/yes"] == 100


def test_pope_without_any_yes_is_no_division_by_zero_and_neither_counts_as_the_wrong_one() -> None:
    assert pope.counts([(True, 0.0), (False, 0.0)])["F1"] == 0
    assert pope.counts([(True, -1.0), (False, -1.0)])["accuracy"] == 0


def test_crpe_counts_a_question_where_all_four_rotations_are_right() -> None:
    rows = [
        {"category": kind, "group": f"{kind}{number}"}
        for kind in ("subject", "predicate", "object")
        for number in range(2)
        for _ in range(4)
    ]
    values = [[1.0]] * 4 + [[1.0], [1.0], [0.0], [1.0]] + [[1.0]] * 8 + [[0.0]] * 8
    found = table("crpe", rows, values)
    assert (found["split/subject"], found["split/predicate"], found["split/object"]) == (50, 100, 0)
    assert (
        found["relation mean"] == 50
        and found["relation total"] == 50
        and found["single rotations"] == pytest.approx(100 * 15 / 24)
    )


def test_mm_vet_averages_runs_and_shows_their_spread() -> None:
    rows = [{"capability": ["ocr", "math"]}, {"capability": ["ocr"]}]
    found = table("mmvet", rows, [[1.0, 0.0], [0.5, 0.5]])
    assert found["run/1"] == 75 and found["run/2"] == 25 and found["total"] == 50 and found["std"] == 25
    assert (
        found["capability/math"] == 50
        and found["capability/ocr"] == 50
        and found["integration/math_ocr"] == 50
        and found["integration/ocr"] == 50
    )


def test_llava_bench_is_a_ratio_of_means() -> None:
    rows = [{"category": "llava_bench_conv"}, {"category": "complex"}]
    found = table("llava_bench", rows, [[8.0, 4.0], [10.0, 10.0]])
    assert (
        found["relative score"] == pytest.approx(100 * 7 / 9)
        and found["conv/relative score"] == 50
        and found["complex/relative score"] == 100
    )


def test_mmhal_scores_and_hallucinations_by_kind() -> None:
    rows = [{"kind": "attribute"}, {"kind": "other"}, {"kind": "other"}]
    found = table("mmhal", rows, [[6.0], [2.0], [3.0]])
    assert (
        found["score"] == pytest.approx(11 / 3)
        and found["hallucination rate"] == pytest.approx(100 / 3)
        and found["kind/other"] == 2.5
    )


def test_judges_replies_are_read_by_the_published_rules() -> None:
    """And, where those read nothing, with a label or a comma: LLaVA-Bench's own counts such reviews as -1."""
    read = {name: all_benchmarks()[name].judge.read for name in ("mmvet", "llava_bench", "mmhal")}  # type: ignore[union-attr]
    assert [read["mmvet"](text) for text in ("0.5", "1.0 (right)", "1.1", "half", "")] == [
        (0.5,),
        (1.0,),
        None,
        None,
        None,
    ]
    assert [read["llava_bench"](text) for text in ("8 9\nbecause", "8, 9", "8,9\nx", "Scores: 8 9", "7")] == [
        (8.0, 9.0),
        (8.0, 9.0),
        (8.0, 9.0),
        (8.0, 9.0),
        None,
    ]
    assert [read["mmhal"](text) for text in ("ok. Rating: 6, good", "rating: 2", "Rating: 1 or Rating: 2", "6")] == [
        (6.0,),
        (2.0,),
        None,
        None,
    ]


def test_the_prompts_are_exact() -> None:
    row = {"question": "How many?", "unit": "cm", "choices": None, "answer_type": "float", "precision": 1.0}
    direct = all_benchmarks()["mathvista"].question(row, False)
    assert direct == (
        "Hint: Please answer the question requiring a floating-point number with one decimal place and provide the "
        "final value, e.g., 1.2, 1.3, 1.4, at the end.\n"
        "Question: How many? (Unit: cm)"
    )
    assert all_benchmarks()["mathvista"].question(row, True) == (
        "Your task is to answer the question below. Give step by step reasoning before you answer, and when you're "
        "ready to answer, please use the format "
        f'"Final answer: .."\n\nQuestion:\n\n{direct}'
    )
    choices = {"question": "Which?", "unit": None, "choices": ["x", "y"], "answer_type": "text"}
    assert all_benchmarks()["mathvista"].question(choices, False) == (
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the "
        "end.\nQuestion: Which?\nChoices:\n(A) x\n(B) y"
    )
    assert all_benchmarks()["mathvista"].question({"query": "as it is"}, False) == "as it is"
    vision = {"question": "<image1>\nHow large?", "options": []}
    assert all_benchmarks()["mathvision"].question(vision, False) == (
        'Please solve the problem step by step and put your answer in one "\\boxed{}". If it is a multiple choice '
        "question, only one letter is allowed in the "
        '"\\boxed{}".\nHow large?'
    )
    assert all_benchmarks()["m3cot"].question({"question": "Q?", "choices": ["a", "b"], "context": ""}, False) == (
        "Q?\nA. a\nB. b\nAnswer with the option's letter from the given choices directly."
    )
    assert all_benchmarks()["pope"].question({"text": "Is there a dog in the image?"}, False) == (
        "Is there a dog in the image?\nAnswer the question using a single word or phrase."
    )
    assert (
        all_benchmarks()["llava_bench"].question({"text": "Describe."}, True)
        == "Describe. Please give a detailed answer."
    )
    assert all_benchmarks()["mmvet"].question({"question": "What?"}, True) == "What?"


@pytest.mark.parametrize("name", [name for name in all_benchmarks() if name not in ("equivalence", "questions")])
def test_a_benchmark_that_is_missing_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"get the benchmark from https://"):
        all_benchmarks()[name].load(tmp_path)


def test_official_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "testmini.json").write_text(
        json.dumps({"1": {"question": "Q", "answer": "3", "metadata": {"task": "t"}}})
    )
    assert all_benchmarks()["mathvista"].load(tmp_path) == [
        {"pid": "1", "question": "Q", "answer": "3", "metadata": {"task": "t"}, "task": "t"}
    ]
    (tmp_path / "mm-vet.json").write_text(
        json.dumps({"v1_0": {"imagename": "v1_0.png", "question": "Q", "answer": "A", "capability": ["ocr"]}})
    )
    assert (
        all_benchmarks()["mmvet"].load(tmp_path)[0]["id"] == "v1_0"
        and all_benchmarks()["mmvet"].load(tmp_path)[0]["image"] == "images/v1_0.png"
    )
    for split in ("random", "popular"):
        (tmp_path / f"coco_pope_{split}.json").write_text(
            json.dumps({"question_id": 1, "image": "a.jpg", "text": "Q?", "label": "no"}) + "\n"
        )
    assert [row["id"] for row in all_benchmarks()["pope"].load(tmp_path)] == ["random/1", "popular/1"]
    relation = [
        {"question_id": n, "category": "subject", "correct_option": "A", "text": "Q\nA. x\nB. y", "image": "a.jpg"}
        for n in range(4)
    ]
    (tmp_path / "crpe_relation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in relation))
    assert {row["group"] for row in all_benchmarks()["crpe"].load(tmp_path)} == {"crpe_relation/0"}
    (tmp_path / "crpe_relation.jsonl").write_text(json.dumps(relation[0]) + "\n")
    with pytest.raises(InputError, match="not a multiple of 4 rotations"):
        all_benchmarks()["crpe"].load(tmp_path)
    bench = {
        "questions": [{"question_id": 0, "image": "1.jpg", "text": "Q", "category": "conv"}],
        "context": [{"image": "1.jpg", "caption": "C"}],
        "answers_gpt4": [{"question_id": 0, "text": "R"}],
    }
    for name, rows in bench.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = all_benchmarks()["llava_bench"].load(tmp_path)
    assert (row["context"], row["reference"], row["image"]) == ("C", "R", "images/1.jpg")
    (tmp_path / "response_template.json").write_text(
        json.dumps([{"question": "Q", "image_src": "http://x/y.jpg", "gt_answer": "A", "image_content": ["cat"]}] * 9)
    )
    kinds = [row["kind"] for row in all_benchmarks()["mmhal"].load(tmp_path)]
    assert kinds == [*mmhal.KINDS, "attribute"]


def test_damaged_files_get_one_sentence(tmp_path: Path) -> None:
    for text, words in (
        ("{no", "is not JSON"),
        ("[1, 2]", "row 1 is '1', not an object"),
        ("", "is empty|is not JSON"),
    ):
        (tmp_path / "testmini.json").write_text(text)
        with pytest.raises(InputError, match=words):
            all_benchmarks()["mathvista"].load(tmp_path)
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(InputError, match=r"x\.jsonl:2: is not JSON"):
        all_benchmarks()["mathvista"].load(tmp_path / "x.jsonl")


def test_published_rows_name_benchmarks_only() -> None:
    data = published()
    assert set(data["metrics"]) <= set(all_benchmarks())
    for row in data["rows"]:
        assert set(row) - {"model", "prompt"} <= set(data["metrics"])
    (best,) = [row for row in data["rows"] if row["model"] == "InternVL2-8B-MPO" and row["prompt"] == "table 2"]
    assert best["mathvista"] == 67.0


def test_the_docs_table_is_the_data(root: Path) -> None:
    lines = (root / "docs/evals.md").read_text().split("<!-- published -->")[1].strip().splitlines()[2:]
    order = ("m3cot", "mathvista", "mathvision", "mmvet", "llava_bench", "pope", "crpe", "mmhal")
    expected = [
        [row["model"], row["prompt"], *(str(row.get(name, "")) for name in order)] for row in published()["rows"]
    ]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == expected


def test_equality_says_how_far_it_agrees_where_rows_know() -> None:
    rows = [{"equivalent": True}, {"equivalent": True}, {"equivalent": False}, {}]
    table = all_benchmarks()["equivalence"].table(rows, [[1.0], [0.0], [0.0], [1.0]])
    assert table.flat() == {"equal": 50.0, "agreement": pytest.approx(200 / 3)}


def test_samples_of_judged_responses_have_no_pass_at_k() -> None:
    rows = [{"id": "1", "sample": place, "judge_raw": "0.5", "response": "x"} for place in range(2)]
    assert not any(name.startswith("pass@") for name in score_rows(all_benchmarks()["mmvet"], rows, "robust").numbers)
