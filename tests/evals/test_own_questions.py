"""A user's own problems: asked, judged and summed up."""

from pathlib import Path

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmarks.questions import BENCHMARK, load, question, score, table


def test_a_direct_question_asks_for_a_short_answer_once_and_one_with_reasoning_not_at_all() -> None:
    asked = {"question": "<image>\nHow many bars?\nAnswer the question using a single word or phrase.", "answer": "6"}
    assert question(asked, False) == "How many bars?\nAnswer the question using a single word or phrase."
    assert question({"question": "How many bars?", "answer": 6}, False) == question(asked, False)
    assert question(asked, True).endswith("Question:\n\nHow many bars?") and "Final answer: .." in question(asked, True)


def test_options_are_listed_unless_the_question_lists_them() -> None:
    row = {"question": "Which?", "choices": ["red", "green"], "answer": "green"}
    assert (
        question(row, False)
        == "Which?\nA. red\nB. green\nAnswer with the option's letter from the given choices directly."
    )
    listed = row | {"question": "Which?\nA. red\nB. green"}
    assert question(listed, False) == question(row, False)


def test_answers_are_judged_by_their_kind(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text(
        '{"question": "How many?", "answer": 6, "category": "counting"}\n{"question": "Which?", "answer": "B", '
        '"choices": ["red", "green"]}\n'
        '{"id": "own", "question": "How long?", "answer": "2.5", "category": "counting"}\n'
    )
    rows = load(tmp_path)
    assert [row["id"] for row in rows] == [0, 1, "own"]
    scores = [
        score(row, text, "robust") for row, text in zip(rows, ("Six.", "Final answer: green", "It is 2.4"), strict=True)
    ]
    assert [one.values for one in scores] == [(1.0,), (1.0,), (0.0,)]
    assert table(rows, [one.values for one in scores]).flat() == pytest.approx(
        {"accuracy": 200 / 3, "category/counting": 50.0}
    )


def test_there_is_no_official_rule() -> None:
    with pytest.raises(InputError, match="no official rule"):
        BENCHMARK.score({"question": "How many?", "answer": "6"}, "6", "official")
