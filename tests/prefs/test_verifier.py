"""A verifier model is asked about undecided responses alone, resumes, and what it decides is recorded as its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpo_lightning.answers.question import question_of
from mpo_lightning.commands.prefs import pair
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.options import VerifierOptions
from mpo_lightning.prefs.verdicts.verifier import prompt_of, read
from support.judge_server import chat_server

STEPS = "First I look at the picture closely, then I count what is there, one after another.\n"


def row(number: int, sample: int, response: str, answer: str = "blue whale") -> dict[str, Any]:
    question = f"<image>\nWhat animal is number {number}?"
    asked = {"id": f"q-{number}", "source": "set", "question": question, "prompt": question, "kind": "plain"}
    said = {"sample": sample, "response": STEPS + response, "finished": True, "response_tokens": 30}
    return asked | {"answer": answer, "image": ["a.png"]} | said


ROWS = [
    row(1, 0, "Final answer: blue whale"),
    row(1, 1, "Final answer: a whale of the largest kind"),
    row(1, 2, "Final answer: some kind of blue fish"),
    row(1, 3, "Final answer: shark"),
]


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in ROWS))
    return path


def judge(request: dict[str, Any]) -> str:
    return "A" if "largest kind" in request["messages"][0]["content"] else "B"


def pairs_of(folder: Path) -> list[dict[str, Any]]:
    found = folder.glob("annotations/*.jsonl")
    return [json.loads(line) for path in sorted(found) for line in path.read_text().splitlines()]


def test_only_undecided_responses_are_asked_about_and_the_history_says_who_decided(
    responses: Path, tmp_path: Path
) -> None:
    with chat_server(judge) as (url, requests):
        pair(str(responses), str(tmp_path / "out"), workers=1, verifier=VerifierOptions(url, "judge"))
    assert len(requests) == 2 and {request["temperature"] for request in requests} == {0.0}
    assert all("<Standard Answer Begin>:\nblue whale\n" in one["messages"][0]["content"] for one in requests)
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())["set"]
    assert (counts["right"], counts["wrong"], counts["decided by the verifier"]) == (2, 2, 2)
    rules = {pair["chosen_meta"]["sample"]: pair["chosen_meta"]["rule"] for pair in pairs_of(tmp_path / "out")}
    assert rules == {0: "final answer/words", 1: "verifier/compass"}
    assert {pair["chosen_meta"]["answer_type"] for pair in pairs_of(tmp_path / "out")} == {"text"}


def test_a_stopped_run_asks_only_for_what_is_missing(responses: Path, tmp_path: Path) -> None:
    """The second request is answered with a status that ends the run; started again, the first one's reply is kept."""
    out, options = str(tmp_path / "out"), {"model": "judge", "at_once": 1}
    with (
        chat_server(lambda request: "A" if "largest" in request["messages"][0]["content"] else 404) as (url, _),
        pytest.raises(InputError, match="answers with status 404"),
    ):
        pair(str(responses), out, workers=1, verifier=VerifierOptions(url, **options))  # type: ignore[arg-type]
    with (tmp_path / "out" / "verifier.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    with chat_server(judge) as (url, requests):
        pair(str(responses), out, workers=1, verifier=VerifierOptions(url, **options))  # type: ignore[arg-type]
    assert len(requests) == 1 and len(pairs_of(tmp_path / "out")) == 4


def test_without_a_verifier_nothing_is_asked_and_refused_ones_stay_undecided(responses: Path, tmp_path: Path) -> None:
    pair(str(responses), str(tmp_path / "rules"), workers=1)
    with chat_server(lambda request: 400) as (url, _):
        pair(str(responses), str(tmp_path / "refused"), workers=1, verifier=VerifierOptions(url, "judge"))
    assert pairs_of(tmp_path / "rules") == pairs_of(tmp_path / "refused")
    counts = json.loads((tmp_path / "refused" / "counts.json").read_text())["set"]
    assert counts["undecided"] == counts["left open by the verifier"] == 2


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("A", True),
        (" B\n", False),
        ("C", None),
        ("A: CORRECT", True),
        ("INCORRECT", False),
        ("Judgement: B", False),
        ("Final Judgment: \\boxed{A} - CORRECT", True),
        ("[Correct]", True),
        ("**Incorrect**", False),
        ("", None),
        ("A careful comparison shows the answer is wrong", None),
        ("To determine whether the answer is correct", None),
        ("The answer is not correct", None),
        ("[Incorrect]. The correct answer is 5", None),
        ("A or B", None),
    ],
)
def test_a_reply_is_a_grade_or_nothing(reply: str, right: bool | None) -> None:
    assert read(reply) is right


def test_the_prompt_holds_the_options_and_the_right_ones_letter_and_text() -> None:
    asked = row(1, 0, "Final answer: {question}", answer="B") | {"choices": ["cat", "dog"]}
    for kind, end in (("compass", "candidate's answer:\n"), ("xverify", "Judgement:\n")):
        prompt = prompt_of(kind, asked, question_of(asked))  # type: ignore[arg-type]
        assert "A. cat\nB. dog" in prompt and "B. dog" in prompt.split("number 1?")[1] and prompt.endswith(end)
        assert "Final answer: {question}" in prompt and "<image>" not in prompt
