"""From a file of responses to annotations: histories, counts, any number of processes, bad files."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from mpo_lightning.commands.data import shard
from mpo_lightning.commands.prefs import pair
from mpo_lightning.data.annotations.mmpr import read_meta
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.options import PairingRules
from mpo_lightning.prefs.responses import cut


def response(question: int, sample: int, text: str, **more: object) -> dict:
    return {
        "id": f"set-{question:08d}",
        "source": "set",
        "root": str(Path.cwd()),
        "image": [],
        "question": f"What is {question} + 1?",
        "answer": str(question + 1),
        "prompt": f"Think. What is {question} + 1?",
        "kind": "plain",
        "max_tiles": 6,
        "sample": sample,
        "response": text,
        "response_tokens": 5 + sample,
        "finished": True,
    } | more


def chain(question: int, sample: int, answer: int) -> str:
    return f"Way {sample} of adding: {question} and one more {'is ' * (sample + 1)}{answer}.\n\nFinal answer: {answer}"


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    rows = []
    for question in range(40):
        right = question % 5  # of 8; questions with 0 are all wrong
        rows += [
            response(question, sample, chain(question, sample, question + 1 + (sample >= right) * (sample + 1)))
            for sample in range(7)
        ]
        rows.append(response(question, 7, f"There is no telling what number {question} is about", known_verdict=False))
    rows[0] |= {"known_verdict": True}
    rows[8] |= {"known_verdict": True}
    rows[9] |= {"known_verdict": True}
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs_of(folder: Path) -> list[dict]:
    return [
        json.loads(line)
        for entry in read_meta(folder / "meta.json")
        for line in entry.annotation.read_text().splitlines()
    ]


def test_right_is_paired_with_wrong_and_with_no_form(
    responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pair(str(responses), str(tmp_path / "out"), workers=1)
    found = pairs_of(tmp_path / "out")
    for one in found:
        question = int(one["id"].split("-")[1])
        assert (
            one["question"] == f"Think. What is {question} + 1?"
            and one["answer_gt"] == str(question + 1)
            and one["id"].startswith("set-")
        )
        assert one["chosen"].endswith(f"Final answer: {question + 1}") and one["chosen_meta"]["outcome"] == "right"
        assert (
            (one["kind"] == "format")
            == ("no telling" in one["rejected"])
            == (one["rejected_meta"]["outcome"] == "no_form")
        )
        assert (
            one["chosen_meta"]["sample"] == int(one["id"].split("-")[2])
            and one["rejected_meta"]["confidence"] <= 1
            and one["rejected_meta"]["response_tokens"] >= 5
        )
    per_question = Counter(one["id"].split("-")[1] for one in found)
    assert (
        len(per_question) == 32 and max(per_question.values()) <= 15 and len({one["id"] for one in found}) == len(found)
    )
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())["set"]
    assert (
        counts["questions"] == 40
        and counts["responses"] == 320
        and counts["questions all wrong"] == 8
        and counts["pairs"] == len(found)
    )
    assert (
        counts["right"] == sum(n % 5 for n in range(40))
        and counts["no_form"] == 40
        and counts["right"] + counts["wrong"] + counts["no_form"] == 320
    )
    # Three are known to be right, of which the rule calls two wrong; those without the form are known to be wrong.
    assert counts["precision"] == {"right": 1.0, "wrong": 0.0, "no_form": 1.0, "rejected": 40 / 42}
    assert "precision of 'wrong' against known verdicts: 0.0%" in capsys.readouterr().out
    assert counts["rejected tokens"] == sum(one["rejected_meta"]["response_tokens"] for one in found)


def test_the_annotations_are_what_data_shard_takes(responses: Path, tmp_path: Path) -> None:
    pair(str(responses), str(tmp_path / "out"), workers=1)
    shard(str(tmp_path / "out" / "meta.json"), str(tmp_path / "shards"), workers=1)
    names = {entry.name: entry for entry in read_meta(tmp_path / "out" / "meta.json")}
    assert (
        set(names) == {"set_pairs_vqa_correctness_rules", "set_pairs_vqa_format_rules"}
        and names["set_pairs_vqa_format_rules"].max_dynamic_patch == 6
    )


def test_any_number_of_processes_and_pieces_writes_the_same(
    responses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(str(responses), str(tmp_path / "one"), workers=1)
    monkeypatch.setattr("mpo_lightning.prefs.pair.PIECE", 5_000)
    assert len(list(cut(responses, 5_000))) > 5
    pair(str(responses), str(tmp_path / "two"), workers=2)
    for path in (tmp_path / "one").rglob("*.json*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


@pytest.mark.parametrize("size", [1, 100, 1000, 10**6])
def test_pieces_cover_the_file_and_keep_questions_together(responses: Path, size: int) -> None:
    pieces = list(cut(responses, size))
    assert pieces[0][0] == 0 and pieces[-1][1] == responses.stat().st_size
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(pieces))
    data = responses.read_bytes()
    ids = [{json.loads(line)["id"] for line in data[start:stop].splitlines()} for start, stop in pieces]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 40


def test_what_is_undecided_filtered_or_without_an_answer_is_not_used(tmp_path: Path) -> None:
    rows = [
        response(1, 0, chain(1, 0, 2)),
        response(1, 1, "Final answer: 3 or 2"),
        response(1, 2, chain(1, 2, 9), finished=False),
        response(2, 0, chain(2, 0, 3), answer=""),
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(str(tmp_path / "r.jsonl"), str(tmp_path / "out"), workers=1)
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())["set"]
    assert (
        counts["undecided"] == 1
        and counts["truncated"] == 1
        and counts["questions without an answer"] == 1
        and "pairs" not in counts
    )


@pytest.mark.parametrize("answer", ["...", "*", "answer", "The final answer is:"])
def test_an_answer_that_reads_to_nothing_is_set_aside(answer: str, tmp_path: Path) -> None:
    rows = [response(1, 0, chain(1, 0, 2)), response(2, 0, chain(2, 0, 3), answer=answer)]
    rows += [response(3, 0, chain(3, 0, 3), answer_type="colour")]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(str(tmp_path / "r.jsonl"), str(tmp_path / "out"), workers=1)
    aside = [json.loads(line) for line in (tmp_path / "out" / "set_aside.jsonl").read_text().splitlines()]
    assert [row["id"] for row in aside] == [rows[1]["id"], rows[2]["id"]]
    assert aside[0]["reason"] == "the answer reads to nothing" and "'answer_type' is 'colour'" in aside[1]["reason"]
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())["set"]
    assert counts["questions with an unusable answer"] == 2 and counts["right"] == 1


def test_a_pairs_history_says_what_kind_its_answer_is_and_why(tmp_path: Path) -> None:
    """A row's own answer_type counts before the form of its answer."""
    rows = [response(1, 0, chain(1, 0, 2)), response(1, 1, chain(1, 1, 9))]
    for name, more, kind, reason in (
        ("form", {}, "integer", "a whole number"),
        ("given", {"answer_type": "float"}, "float", "the row's answer_type"),
    ):
        (tmp_path / name).write_text("".join(json.dumps(row | more) + "\n" for row in rows))
        pair(str(tmp_path / name), str(tmp_path / f"{name}.out"), workers=1)
        (annotation,) = (tmp_path / f"{name}.out" / "annotations").glob("*.jsonl")
        meta = json.loads(annotation.read_text().splitlines()[0])["chosen_meta"]
        assert (meta["answer_type"], meta["type_by"]) == (kind, reason)


def test_bad_files_are_one_sentence(responses: Path, tmp_path: Path) -> None:
    lines = responses.read_text().splitlines()
    for name, text, words in (
        (
            "scattered",
            "\n".join([*lines[:3], *lines[8:], *lines[3:8]]),
            "are not consecutive lines; sort the lines by 'id'",
        ),
        ("broken", "\n".join([lines[0], "{", lines[1]]), "is not JSON"),
        ("foreign", '{"a": 1}\n', "is not a response: it has no 'id'"),
    ):
        (tmp_path / name).write_text(text + "\n")
        with pytest.raises(InputError, match=words):
            pair(str(tmp_path / name), str(tmp_path / f"{name}.out"), workers=1)
        assert not (tmp_path / f"{name}.out" / "meta.json").exists()
    with pytest.raises(InputError, match="there is no such file; 'mpo prefs sample' writes one"):
        pair(str(tmp_path / "nothing"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="there is no filter 'x'"):
        pair(str(responses), str(tmp_path / "out"), pairing=PairingRules(filters=("x",)))
    with pytest.raises(InputError, match="is not empty and does not hold pairs"):
        pair(str(responses), str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("response", 7, "has the response 7; it must be a text"),
        ("response", ["7"], "it must be a text"),
        ("sample", "a", ("has the sample 'a'; it must be a whole number")),
        ("max_tiles", "x", "has the max_tiles 'x'"),
        ("max_tiles", 0, "at least 1"),
        ("question", None, "has no 'question'"),
        ("image", {"a": 1}, "a path or a list of paths"),
        ("answer", {"a": 1}, "a text or a number"),
        ("source", 3, "it must be a text"),
    ],
)
def test_odd_rows_are_one_sentence(tmp_path: Path, field: str, value: object, words: str) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(response(1, 0, chain(1, 0, 2)) | {field: value}) + "\n")
    with pytest.raises(InputError, match=words):
        pair(str(tmp_path / "r.jsonl"), str(tmp_path / "out"), workers=1)


def test_pairs_do_not_depend_on_the_order_of_lines(responses: Path, tmp_path: Path) -> None:
    """The same words twice: the lower number stands for both, wherever its line is."""
    rows = [json.loads(line) for line in responses.read_text().splitlines()]
    rows = [row for row in rows if row["sample"] < 3] + [
        row | {"sample": 10 + row["sample"]} for row in rows if row["sample"] < 3
    ]
    for name, order in (("there", rows), ("back", rows[::-1])):
        text = "".join(json.dumps(row) + "\n" for row in sorted(order, key=lambda row: row["id"]))
        (tmp_path / f"{name}.jsonl").write_text(text)
        pair(str(tmp_path / f"{name}.jsonl"), str(tmp_path / name), workers=1)
    assert pairs_of(tmp_path / "there") == pairs_of(tmp_path / "back") != []


def test_joined_runs_with_the_same_numbers_are_refused(responses: Path, tmp_path: Path) -> None:
    lines = responses.read_text().splitlines()
    (tmp_path / "both.jsonl").write_text(
        "\n".join(sorted([*lines, *lines], key=lambda line: json.loads(line)["id"])) + "\n"
    )
    with pytest.raises(
        InputError, match=r"two responses to the question 'set-00000000' have the number 0; pair the runs"
    ):
        pair(str(tmp_path / "both.jsonl"), str(tmp_path / "out"), workers=1)


def test_a_source_with_two_folders_or_limits_has_files_for_each(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    rows = []
    for question, more in (
        (1, {}),
        (2, {"root": str(tmp_path / "other")}),
        (3, {"max_tiles": 12}),
        (4, {"max_tiles": None}),
    ):
        rows += [
            response(question, sample, chain(question, sample, question + 1 + sample), **more) for sample in range(2)
        ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(str(tmp_path / "r.jsonl"), str(tmp_path / "out"), workers=1)
    sets = read_meta(tmp_path / "out" / "meta.json")
    assert len(pairs_of(tmp_path / "out")) == 4
    assert [(entry.root.name, entry.max_dynamic_patch) for entry in sets] == [
        (Path.cwd().name, 6), ("other", 6), (Path.cwd().name, 12), (Path.cwd().name, None),
    ]  # fmt: skip


def test_prompts_that_the_engine_could_not_answer_are_counted_by_their_reasons(tmp_path: Path) -> None:
    failed = {
        "response": None,
        "error": "q.jsonl:1: the prompt has 9,000 tokens, 8,192 are allowed",
        "where": "q.jsonl:1",
    }
    rows = [
        response(1, 0, chain(1, 0, 2)), response(1, 1, chain(1, 1, 9)), response(1, 2, "") | failed,
        response(2, 0, "") | failed, response(2, 1, "") | failed, response(3, 0, ""),
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(str(tmp_path / "r.jsonl"), str(tmp_path / "out"), workers=1)
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())["set"]
    assert (
        counts["no response: the prompt has .. tokens, .. are allowed"] == 3
        and counts["empty"] == 1
        and counts["pairs"] == 1
    )
    assert (
        counts["questions without a response"] == 1
        and counts["questions undecided"] == 1
        and "questions all wrong" not in counts
    )


def test_a_run_that_was_killed_while_it_wrote_goes_on_and_other_settings_are_refused(
    responses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair(str(responses), str(tmp_path / "whole"), workers=1)

    class Killed(BaseException):
        """Like a signal, nobody catches it."""

    def killed(*_: object) -> None:
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        # Files of pairs are there under their names, meta.json is not.
        patch.setattr("mpo_lightning.prefs.annotations.write_json", killed)
        pair(str(responses), str(out), workers=1)
    assert list((out / "annotations").iterdir()) and not (out / "meta.json").exists()
    (out / "annotations" / ".set_pairs_vqa_format_rules.jsonl.partial").write_text("half a li")
    with pytest.raises(
        InputError, match=r"made with options.pairs_per_question 15 instead of 3; choose another --output"
    ):
        pair(str(responses), str(out), workers=1, pairing=PairingRules(pairs_per_question=3))
    pair(str(responses), str(out), workers=2)
    for path in (tmp_path / "whole").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (out / path.relative_to(tmp_path / "whole")).read_bytes(), path
    with pytest.raises(InputError, match="holds pairs already"):
        pair(str(responses), str(out), workers=1)


def test_a_questions_own_system_message_stays_with_its_pairs(tmp_path: Path) -> None:
    rows = [
        response(1, sample, chain(1, sample, 2 if sample < 3 else 5 + sample), system_prompt="Be brief.")
        for sample in range(6)
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair(str(path), str(tmp_path / "out"), workers=1)
    found = pairs_of(tmp_path / "out")
    assert len(found) == 9 and all(one["system_prompt"] == "Be brief." for one in found)
