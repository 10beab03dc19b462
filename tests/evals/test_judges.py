"""Judges: a real server on this machine, replies kept and replayed, the rules of asking again."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpo_lightning.commands.eval import score
from mpo_lightning.errors import InputError
from mpo_lightning.evals.options import JudgeOptions
from mpo_lightning.evals.registry import all_benchmarks
from support.judge_server import chat_server

ROWS = [
    {"id": "v1_0", "question": "What is x?", "answer": "1<AND>2", "capability": ["math"], "response": "x is 1"},
    {"id": "v1_1", "question": "Which colour?", "answer": "red", "capability": ["rec", "ocr"], "response": "blue"},
]


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def decisions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_server_judges_and_its_replies_are_kept_and_replayed(
    responses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    out = tmp_path / "scores.jsonl"
    with chat_server(lambda request: "0.5" if "x is 1" in request["messages"][0]["content"] else "0.0") as (
        url,
        requests,
    ):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url, model="small-judge", runs=2))
    assert (
        len(requests) == 4
        and {request["model"] for request in requests} == {"small-judge"}
        and requests[0]["key"] == "Bearer secret"
    )
    assert {request["temperature"] for request in requests} == {0.0} and {
        request["max_tokens"] for request in requests
    } == {3}
    (asked,) = {
        request["messages"][0]["content"] for request in requests if "x is 1" in request["messages"][0]["content"]
    }
    assert asked.endswith("\nWhat is x? | 1 <AND> 2 | x is 1 | ")
    rows = decisions(out)
    assert (
        [row["points"] for row in rows] == [[0.5, 0.5], [0.0, 0.0]]
        and rows[0]["correct"] is None
        and rows[0]["id"] == "v1_0"
    )
    table = json.loads((tmp_path / "scores.table.json").read_text())
    assert table["score"] == 25.0 and {(row["name"], row["score"]) for row in table["rows"]} >= {
        ("math", 50.0),
        ("ocr_rec", 0.0),
    }
    before = out.read_bytes()
    score(
        "mmvet",
        str(responses),
        str(out),
        judge=JudgeOptions(model="small-judge", replay=str(tmp_path / "scores.judge.jsonl"), runs=2),
    )
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="holds no reply to one of the requests"):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(replay=str(tmp_path / "scores.judge.jsonl")))


def test_a_reply_that_cannot_be_read_is_asked_for_again_warmer_and_then_counts_nothing(
    responses: Path, tmp_path: Path
) -> None:
    def answer(request: dict[str, Any]) -> str:
        hinted = request["messages"][0]["content"].endswith("nothing else: ")
        return (
            "0.7"
            if hinted and "blue" in request["messages"][0]["content"] and request["temperature"] >= 0.5
            else "well"
        )

    with chat_server(answer) as (url, requests):
        score("mmvet", str(responses), str(tmp_path / "scores.jsonl"), judge=JudgeOptions(url=url, at_once=1))
    assert [row["points"] for row in decisions(tmp_path / "scores.jsonl")] == [[0.0], [0.7]]
    first = [request for request in requests if "x is 1" in request["messages"][0]["content"]]
    assert [request["temperature"] for request in first] == [0.0, 0.0, 0.5, 1.0, 1.5]
    assert decisions(tmp_path / "scores.jsonl")[0]["rule"] == "judge/unreadable"


def test_a_run_that_stopped_goes_on_where_it_was(responses: Path, tmp_path: Path) -> None:
    """The server refuses the second response; started again, only that one is asked for.

    A line that a kill cut off does not count.
    """
    with (
        chat_server(lambda request: 404 if "blue" in request["messages"][0]["content"] else "1.0") as (url, _),
        pytest.raises(InputError, match=r"answers with status 404.* answers so far are kept"),
    ):
        score("mmvet", str(responses), str(tmp_path / "scores.jsonl"), judge=JudgeOptions(url=url, at_once=1))
    kept = tmp_path / "scores.judge.jsonl"
    assert len(kept.read_text().splitlines()) == 1
    with kept.open("a") as file:
        file.write('{"request": "cut o')
    with chat_server(lambda request: "0.2") as (url, requests):
        score("mmvet", str(responses), str(tmp_path / "scores.jsonl"), judge=JudgeOptions(url=url))
    assert len(requests) == 1
    assert [row["points"] for row in decisions(tmp_path / "scores.jsonl")] == [[1.0], [0.2]]
    assert all("reply" in json.loads(line) for line in kept.read_text().splitlines())


def test_a_refused_request_leaves_one_response_out_and_not_the_score(
    responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two responses the judge refuses one (a content filter, say): the score is that of the other."""
    out = tmp_path / "scores.jsonl"
    with chat_server(lambda request: 400 if "blue" in request["messages"][0]["content"] else "0.6") as (url, requests):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url))
        asked = len(requests)
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url))
    rows = decisions(out)
    assert [row["rule"] for row in rows] == ["judge", "judge/not judged"]
    assert "the server refuses it" in rows[1]["extraction"]
    table = json.loads((tmp_path / "scores.table.json").read_text())
    assert table["score"] == pytest.approx(60.0) and table["numbers"]["not judged"] == 1
    assert "not judged: 1 responses" in capsys.readouterr().out
    assert len(requests) == asked + 1  # only the refused one is asked for again
    with chat_server(lambda request: "0.2") as (url, _):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url))
    assert [row["points"] for row in decisions(out)] == [[0.6], [0.2]]


def test_a_judge_that_refuses_everything_ends_the_run_at_once(tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps(ROWS[0] | {"id": f"v1_{n}", "response": f"x is {n}"}) + "\n" for n in range(30)))
    with (
        chat_server(lambda request: 400) as (url, requests),
        pytest.raises(InputError, match="the judge refuses the first 8 requests"),
    ):
        score("mmvet", str(many), str(tmp_path / "scores.jsonl"), judge=JudgeOptions(url=url, at_once=2))
    assert len(requests) < 30


@pytest.mark.parametrize(
    ("name", "reply", "points"),
    [
        ("mmvet", "Score: 0.8", (0.8,)),
        ("mmvet", "**1.0**", (1.0,)),
        ("mmvet", "0.5.", (0.5,)),
        ("mmvet", "1.5", None),
        ("mmvet", "50%", None),
        ("mmvet", "about right", None),
        ("llava_bench", "**8, 6**\nBecause", (8.0, 6.0)),
        ("llava_bench", "Scores: 8 6.5", (8.0, 6.5)),
        ("llava_bench", "8 6 2", None),
        ("mmhal", "**Rating**: 4", (4.0,)),
        ("mmhal", "Rating:2 rather than Rating: 3", None),
    ],
)
def test_grades_with_labels_and_bold_marks_are_read(name: str, reply: str, points: tuple[float, ...] | None) -> None:
    judge = all_benchmarks()[name].judge
    assert judge is not None and judge.read(reply) == points


def test_llava_bench_and_mmhal_are_judged_too(tmp_path: Path) -> None:
    bench = {
        "question_id": 0,
        "text": "Describe it.",
        "category": "detail",
        "context": ["a cat", "a mat"],
        "reference": "A cat on a mat.",
        "response": "A dog.",
    }
    (tmp_path / "bench.jsonl").write_text(json.dumps(bench) + "\n")
    with chat_server(lambda request: "8 2\nThe second is wrong.") as (url, requests):
        judge = JudgeOptions(url=url)
        score("llava_bench", str(tmp_path / "bench.jsonl"), str(tmp_path / "bench_scores.jsonl"), judge=judge)
    content = requests[0]["messages"][1]["content"]
    order = [
        content.index(part)
        for part in (
            "[Context]\na cat\na mat",
            "[Question]\nDescribe it.",
            "[Assistant 1]\nA cat on a mat.",
            "[Assistant 2]\nA dog.",
            "[System]",
        )
    ]
    assert order == sorted(order) and requests[0]["temperature"] == 0.2
    assert json.loads((tmp_path / "bench_scores.table.json").read_text())["score"] == 25.0
    hal = {
        "id": "0",
        "question": "How many?",
        "gt_answer": "Two",
        "image_content": ["cat"],
        "response": "Three",
        "kind": "counting",
    }
    (tmp_path / "hal.jsonl").write_text(json.dumps(hal) + "\n")
    with chat_server(lambda request: "There are two. Rating: 2") as (url, requests):
        score("mmhal", str(tmp_path / "hal.jsonl"), str(tmp_path / "hal_scores.jsonl"), judge=JudgeOptions(url=url))
    assert "### LMM Response to Evaluate\nThree" in requests[0]["messages"][0]["content"]
    assert json.loads((tmp_path / "hal_scores.table.json").read_text())["score"] == 2.0


def test_what_is_missing_is_said(responses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "out.jsonl")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"has no judge's reply .* give --judge.url"):
        score("mmvet", str(responses), out)
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        score("mmvet", str(responses), out, judge=JudgeOptions(url="openai"))
    with pytest.raises(InputError, match="there is no file of a judge's replies"):
        score("mmvet", str(responses), out, judge=JudgeOptions(replay=str(tmp_path / "none.jsonl")))
    (tmp_path / "bad.jsonl").write_text("nonsense\n{}\n")
    with pytest.raises(InputError, match=r"bad\.jsonl:1: not a line of a judge's replies"):
        score("mmvet", str(responses), out, judge=JudgeOptions(replay=str(tmp_path / "bad.jsonl")))
    with pytest.raises(InputError, match="pope needs no judge with robust rules"):
        (tmp_path / "pope.jsonl").write_text('{"id": 1, "label": "yes", "response": "yes"}\n')
        score("pope", str(tmp_path / "pope.jsonl"), out, judge=JudgeOptions(url="http://localhost:1/v1"))


def test_official_mathvista_may_ask_for_the_short_answer(tmp_path: Path) -> None:
    """Only where no rule in front of it finds one; an empty reply is asked for again."""
    shape = {"question_type": "free_form", "answer_type": "integer", "choices": None, "question": "How many?"}
    rows = [
        shape | {"pid": "1", "answer": "7", "response": "I count seven of them."},
        shape | {"pid": "2", "answer": "3", "response": "3"},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replies = iter(["", " 7\n"])
    with chat_server(lambda request: next(replies)) as (url, requests):
        judge = JudgeOptions(url=url)
        score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), mode="official", judge=judge)
    assert len(requests) == 2 and requests[0]["messages"][0]["content"].endswith(
        "\n\nHow many?\n\nI count seven of them.\n\nExtracted answer: "
    )
    assert [(row["correct"], row["rule"]) for row in decisions(tmp_path / "o.jsonl")] == [
        (True, "given extraction/2023"),
        (True, "a number/2023"),
    ]
    assert json.loads((tmp_path / "o.table.json").read_text())["normaliser"] == "2023"


def test_a_reply_that_nobody_can_read_is_asked_for_again_by_the_next_run(responses: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    with chat_server(lambda _: "no idea") as (url, requests):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url, model="j"))
        assert len(requests) == 10 and [row["points"] for row in decisions(out)] == [[0.0], [0.0]]
    with chat_server(lambda _: "1.0") as (url, requests):
        score("mmvet", str(responses), str(out), judge=JudgeOptions(url=url, model="j"))
        assert len(requests) == 2 and [row["points"] for row in decisions(out)] == [[1.0], [1.0]]


def test_a_page_that_is_no_json_is_one_sentence(responses: Path, tmp_path: Path) -> None:
    with (
        chat_server(lambda _: 400) as (url, _),
        pytest.raises(InputError, match="the judge graded none of the 2 responses: not judged: the server refuses it"),
    ):
        score("mmvet", str(responses), str(tmp_path / "scores.jsonl"), judge=JudgeOptions(url=url, model="j"))
