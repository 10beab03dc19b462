"""`mpo eval run` and the callback, with a real model on a made benchmark: what it says is what the model says, and
nothing is lost or repeated.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from mpo_lightning.commands.eval import run, score
from mpo_lightning.commands.predict import predict
from mpo_lightning.errors import InputError
from mpo_lightning.evals.callback import EvaluateBenchmark
from mpo_lightning.evals.compare import read_run
from mpo_lightning.evals.registry import find_benchmark
from support.commands import mpo, mpo_killed_when, ranks
from support.judge_server import chat_server
from support.long_runs import fit_words
from support.options import nested
from support.processes import bytes_below
from support.runs import logged, make_run

OPTIONS: dict[str, Any] = {
    "engine.dtype": "float32",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "engine.num_workers": 0,
    "max_new_tokens": 8,
    "engine.max_tiles": 1,
}


@pytest.fixture(scope="module")
def mathvista(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven problems in the form of MathVista's testmini.json."""
    folder = tmp_path_factory.mktemp("mathvista")
    photos = sorted((root / "examples" / "mmpr_sample" / "images" / "photos").iterdir())
    (folder / "images").mkdir()
    problems = {}
    for number in range(7):
        photo = photos[number % len(photos)]
        shutil.copyfile(photo, folder / "images" / f"{number}{photo.suffix}")
        problems[str(number)] = {
            "question": f"How many things are there? ({number})",
            "image": f"images/{number}{photo.suffix}",
            "choices": None,
            "unit": None,
            "precision": None,
            "answer": "3",
            "question_type": "free_form",
            "answer_type": "integer",
            "metadata": {"task": "vqa"},
        }
    (folder / "testmini.json").write_text(json.dumps(problems))
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def words(model: Path, data: Path, output: Path, *more: str) -> list[str]:
    return [
        "eval",
        "run",
        "--model",
        str(model),
        "--benchmark",
        "mathvista",
        "--data",
        str(data),
        "--output",
        str(output),
        "--trainer.accelerator=cpu",
        "--engine.num_workers=0",
        "--max_new_tokens=8",
        "--engine.max_tiles=1",
        "--engine.batch_size=2",
        *more,
    ]


def test_responses_are_the_models_and_are_scored(
    mathvista: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(str(tiny_folder), "mathvista", str(mathvista), str(tmp_path / "run"), cot=True, **nested(run, OPTIONS))
    rows = rows_of(tmp_path / "run/responses.jsonl")
    questions = tmp_path / "questions.jsonl"
    prompt = ('Your task is to answer the question below. Give step by step reasoning before you answer, and when '
        'you\'re ready to answer, please use the format "Final answer: .."\n\nQuestion:\n\n')  # fmt: skip
    hint = (
        "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, "
        "at the end.\nQuestion: "
    )
    asked = [{"question": prompt + hint + row["question"], "image": row["image"]} for row in rows]
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked))
    predict(
        str(tiny_folder),
        str(tmp_path / "predicted"),
        questions=str(questions),
        images=str(mathvista),
        **nested(predict, OPTIONS),
    )
    assert [row["response"] for row in rows] == [row["response"] for row in rows_of(tmp_path / "predicted")]
    assert (
        [row["pid"] for row in rows]
        == [row["pid"] for row in rows_of(tmp_path / "run/scores.jsonl")]
        == list("0123456")
    )
    assert json.loads((tmp_path / "run/scores.table.json").read_text())["rows"][0]["total"] == 7
    printed = capsys.readouterr().out
    assert "InternVL2-8B-MPO" in printed and "67.0" in printed and "coverage" in printed


def test_samples_depend_on_their_problem_and_number_alone(mathvista: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Whatever the batch and the number of processes; another seed draws others."""
    for name, options in {
        "ones": {"engine.batch_size": 1},
        "many": {"engine.batch_size": 5},
        "other": {"engine.batch_size": 5, "sampling.seed": 1},
    }.items():
        run(
            str(tiny_folder),
            "mathvista",
            str(mathvista),
            str(tmp_path / name),
            samples=2,
            limit=3,
            **nested(run, OPTIONS | options),
        )
    more = ("--trainer.devices=2", "--samples=2", "--limit=3")
    done = ranks(2, "mpo", *words(tiny_folder, mathvista, tmp_path / "two", *more))
    assert done.returncode == 0, done.stderr
    ones, many, two, other = (rows_of(tmp_path / name / "responses.jsonl") for name in ("ones", "many", "two", "other"))
    assert ones == many == two and ones != other
    assert [(row["pid"], row["sample"]) for row in ones] == [(pid, sample) for pid in "012" for sample in (0, 1)]
    assert ones[0]["response"] != ones[1]["response"]
    assert {"pass@1", "pass@2", "majority@2"} <= json.loads((tmp_path / "ones/scores.table.json").read_text())[
        "numbers"
    ].keys()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(mathvista: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run(
        str(tiny_folder),
        "mathvista",
        str(mathvista),
        str(tmp_path / "whole"),
        samples=8,
        **nested(run, OPTIONS | {"engine.batch_size": 2}),
    )
    again = words(tiny_folder, mathvista, tmp_path / "run", "--trainer.devices=1", "--samples=8")
    parts = tmp_path / "run/responses.jsonl.parts"
    assert mpo_killed_when(lambda: bytes_below(parts, "part-*") >= 500, *again) == -signal.SIGKILL
    assert not (tmp_path / "run/responses.jsonl").exists()
    done = mpo(*again)
    assert done.returncode == 0, done.stderr
    for name in ("responses.jsonl", "scores.jsonl", "scores.table.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_keeps_one_run(mathvista: Path, tiny_folder: Path, tmp_path: Path) -> None:
    arguments = (str(tiny_folder), "mathvista", str(mathvista), str(tmp_path / "run"))
    run(*arguments, limit=2, **nested(run, OPTIONS))
    before = (tmp_path / "run/responses.jsonl").stat().st_mtime_ns
    run(*arguments, limit=2, mode="official", **nested(run, OPTIONS))
    assert (tmp_path / "run/responses.jsonl").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "run/scores.table.json").read_text())["mode"] == "official"
    with pytest.raises(InputError, match=r"holds a run with .* choose another --output"):
        run(*arguments, limit=3, **nested(run, OPTIONS))


def test_a_picture_that_is_missing_is_a_line_that_says_so(
    mathvista: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(mathvista, copy)
    next((copy / "images").glob("1.*")).unlink()
    run(str(tiny_folder), "mathvista", str(copy), str(tmp_path / "run"), limit=2, **nested(run, OPTIONS))
    _, missing = rows_of(tmp_path / "run/responses.jsonl")
    assert missing["response"] is None and "does not exist" in missing["error"]
    assert rows_of(tmp_path / "run/scores.jsonl")[1]["correct"] is False
    assert "1 of 2 problems could not be asked" in capsys.readouterr().out


def test_a_judged_benchmark_is_generated_and_then_judged(
    mathvista: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "vet"
    shutil.copytree(mathvista / "images", data / "images")
    name = next((data / "images").glob("0.*")).name
    (data / "mm-vet.json").write_text(
        json.dumps({"v1_0": {"imagename": name, "question": "What?", "answer": "It", "capability": ["rec"]}})
    )
    run(str(tiny_folder), "mmvet", str(data), str(tmp_path / "run"), **nested(run, OPTIONS))
    assert "MM-Vet needs a judge: mpo eval score --benchmark mmvet" in capsys.readouterr().out
    with chat_server(lambda request: "0.3") as (url, requests):
        run(str(tiny_folder), "mmvet", str(data), str(tmp_path / "run"), **nested(run, OPTIONS | {"judge.url": url}))
    assert len(requests) == 1 and rows_of(tmp_path / "run/scores.jsonl")[0]["points"] == [0.3]


def test_bad_arguments_are_one_sentence(mathvista: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such benchmark; choose one of crpe, equivalence"):
        run(str(tiny_folder), "mathvisto", str(mathvista), str(tmp_path / "run"), **nested(run, OPTIONS))
    with pytest.raises(InputError, match="--samples must be at least 1"):
        run(str(tiny_folder), "mathvista", str(mathvista), str(tmp_path / "run"), samples=0, **nested(run, OPTIONS))
    with pytest.raises(InputError, match="temperature above 0"):
        run(
            str(tiny_folder),
            "mathvista",
            str(mathvista),
            str(tmp_path / "run"),
            samples=2,
            **nested(run, OPTIONS | {"sampling.temperature": 0.0}),
        )
    (tmp_path / "r.jsonl").write_text('{"pid": "99", "response": "3"}\n')
    with pytest.raises(InputError, match=r"row 1 has pid '99', which --problems does not have"):
        score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), problems=str(mathvista))
    with pytest.raises(InputError, match=r"row 1 \(pid 99\) has no 'answer'; give --problems"):
        score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"))
    with pytest.raises(InputError, match="is the file of responses"):
        score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "r.jsonl"))
    with pytest.raises(InputError, match="needs a judge"):
        EvaluateBenchmark("mmvet", str(mathvista))


def test_one_line_a_response_in_their_order(mathvista: Path, tmp_path: Path) -> None:
    """Also for repeated ids and empty responses."""
    said = ["3", "", "Final answer: 4", "no idea at all", "3"]
    rows = [{"pid": pid, "response": text} for pid, text in zip(["6", "0", "1", "2", "6"], said, strict=True)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), problems=str(mathvista))
    found = rows_of(tmp_path / "o.jsonl")
    assert [(row["pid"], row["correct"]) for row in found] == [
        ("6", True),
        ("0", False),
        ("1", False),
        ("2", None),
        ("6", True),
    ]
    assert all({"extraction", "prediction", "correct", "rule"} <= row.keys() for row in found)
    numbers = json.loads((tmp_path / "o.table.json").read_text())["numbers"]
    assert numbers["coverage"] == 80 and numbers["format rate"] == 20


def test_a_benchmark_during_fit_is_logged_and_leaves_training_alone(
    mathvista: Path, tiny_folder: Path, shards: Path, tmp_path: Path
) -> None:
    with_it = EvaluateBenchmark("mathvista", str(mathvista), every_n_steps=3, limit=3, max_new_tokens=6, batch_size=2)
    trainers = {}
    for name, callbacks in (("without", []), ("with", [with_it])):
        trainers[name], model, module = make_run(
            tmp_path / name, tiny_folder, shards / "train", trainer={"max_steps": 4, "callbacks": callbacks}
        )
        trainers[name].fit(model, module)
    assert logged(tmp_path / "with", "train/loss") == logged(tmp_path / "without", "train/loss")
    assert len(logged(tmp_path / "with", "eval/mathvista/accuracy")) == 3  # before step 0, after 3, at the end
    rows = rows_of(tmp_path / "with/version_0/responses.mathvista.jsonl")
    assert [(row["step"], row["pid"]) for row in rows] == [(step, pid) for step in (0, 3, 4) for pid in "012"]
    run(
        str(tiny_folder),
        "mathvista",
        str(mathvista),
        str(tmp_path / "run"),
        limit=3,
        **nested(run, OPTIONS | {"max_new_tokens": 6, "engine.max_tiles": 2}),
    )
    assert [row["response"] for row in rows[:3]] == [
        row["response"] for row in rows_of(tmp_path / "run/responses.jsonl")
    ]
    assert (
        trainers["with"].callback_metrics["eval/mathvista/coverage"]
        == logged(tmp_path / "with", "eval/mathvista/coverage")[-1]
    )
    assert with_it.state_dict() == {"last": 4}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_cpu", "fsdp2_cpu"])
def test_a_benchmark_during_fit_on_two_processes(
    strategy: str, mathvista: Path, root: Path, tiny_folder: Path, shards: Path, tmp_path: Path
) -> None:
    """Three problems over two ranks: each once in the numbers."""
    more = [
        (
            f"--trainer.callbacks+={{'class_path': 'mpo_lightning.evals.callback.EvaluateBenchmark', 'init_args': "
            f"{{'benchmark': 'mathvista', 'data': '{mathvista}', 'limit': 3, 'max_new_tokens': 6}}}}"
        ),
        "--trainer.max_steps=1",
    ]
    done = ranks(2, "mpo", *fit_words(tmp_path / "run", root, shards, tiny_folder, strategy, *more))
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted((tmp_path / "run/version_0").glob("responses.mathvista.*.jsonl"))
    assert len(files) == 2
    assert {row["pid"] for path in files for row in rows_of(path) if row["step"] == 0} == set("012")
    assert len(logged(tmp_path / "run", "eval/mathvista/accuracy")) == 2


@pytest.mark.parametrize(
    ("name", "row", "sentence"),
    [
        (
            "mathvista",
            {"pid": "1", "answer": "3", "question_type": "free_form", "answer_type": "number"},
            "answer_type is 'number'",
        ),
        (
            "mathvista",
            {"pid": "1", "answer": "3", "question_type": "free_form", "answer_type": "float", "precision": "two"},
            "precision",
        ),
        ("mathvision", {"id": "1", "answer": "F", "options": ["a", "b"]}, "names no option"),
        ("m3cot", {"id": "1", "answer": 4, "choices": ["a", "b"]}, "answer 4 names no option"),
        ("pope", {"id": "1", "label": "maybe"}, "label is 'maybe', not yes or no"),
        ("crpe", {"id": "1", "correct_option": "yes", "category": "subject"}, "not a letter"),
    ],
)
def test_a_row_of_something_else_is_named(name: str, row: dict, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(row | {"response": "3"}) + "\n")
    with pytest.raises(InputError, match=f"row 1 .*{sentence}"):
        score(name, str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"))


def test_pope_rows_are_known_by_split_and_question_number(tmp_path: Path) -> None:
    """As the official files have them, which number the questions of each split from 1."""
    rows = [
        {"question_id": number, "category": split, "label": "yes" if number % 2 else "no", "text": "Is there a dog?"}
        for split in ("random", "popular")
        for number in range(1, 5)
    ]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = [{name: row[name] for name in ("question_id", "category")} | {"response": "yes"} for row in rows]
    for name, order in (("a", said), ("b", said[::-1])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in order))
        score(
            "pope",
            str(tmp_path / f"{name}.jsonl"),
            str(tmp_path / f"{name}.scores.jsonl"),
            problems=str(tmp_path / "problems.jsonl"),
        )
    runs = [read_run(tmp_path / f"{name}.scores.jsonl").right for name in "ab"]
    assert runs[0] == runs[1] and runs[0]["popular/2"] == 0 and runs[0]["random/1"] == 1


def test_the_format_rate_is_that_of_the_responses_whatever_the_rules(mathvista: Path, tmp_path: Path) -> None:
    rows = [{"pid": "0", "response": "It is 3. Final answer: 3"}, {"pid": "1", "response": "4"}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for mode in ("robust", "official"):
        score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), problems=str(mathvista), mode=mode)  # type: ignore[arg-type]
        assert json.loads((tmp_path / "o.table.json").read_text())["numbers"]["format rate"] == 50


def test_a_rows_own_normaliser_and_metadata_count(tmp_path: Path) -> None:
    row = {
        "pid": "1",
        "answer": "1",
        "question_type": "free_form",
        "answer_type": "integer",
        "extraction": "1.0",
        "response": "1.0",
        "metadata": {"task": "FQA"},
    }
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps(row | more) + "\n" for more in ({"normaliser": "2025"}, {"pid": "2"}))
    )
    score("mathvista", str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), mode="official")
    assert [row["correct"] for row in rows_of(tmp_path / "o.jsonl")] == [True, False]
    assert {row["name"] for row in json.loads((tmp_path / "o.table.json").read_text())["rows"]} >= {"FQA"}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("m3cot", {"id": "1", "answer": "A", "choices": ["x", 3, None]}),
        ("equivalence", {"gold": "3", "prediction": "3", "options": "x"}),
        ("equivalence", {"gold": "3", "prediction": "3", "options": {"precision": "two"}}),
    ],
)
def test_odd_fields_are_no_traceback(name: str, row: dict, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps({"response": "3"} | row) + "\n")
    for mode in find_benchmark(name).modes:
        score(name, str(tmp_path / "r.jsonl"), str(tmp_path / "o.jsonl"), mode=mode)
    (tmp_path / "deep.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(InputError, match=r"nested too deeply|is not JSON"):
        score(name, str(tmp_path / "deep.jsonl"), str(tmp_path / "o.jsonl"))
