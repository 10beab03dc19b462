"""Samples of several pairs: a question with its images and each of its answers once."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from mpo_lightning.commands import data as commands
from mpo_lightning.data.annotations import survey
from mpo_lightning.data.plan import Plan
from mpo_lightning.data.prompts import ShardQuestions
from mpo_lightning.data.shards.index import ShardIndex, open_index, record_dtype
from mpo_lightning.data.shards.index_summary import check_places
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.named_arrays import save_array
from support.question_shards import annotations, shared_rows


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """The lines of a data set whose shards are in tmp_path/shards/train."""
    lines = shared_rows()
    commands.shard(str(annotations(tmp_path, lines)), str(tmp_path / "shards"), workers=1)
    return lines


def test_a_sample_is_a_question_and_a_plain_pipeline_reads_it(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    (tar,) = (tmp_path / "shards" / "train").glob("*.tar")
    samples = list(webdataset.WebDataset([str(tar)], shardshuffle=False))
    found = []
    for sample in samples:
        fields = json.loads(sample["json"])
        assert len(fields["answers"]) == len(set(fields["answers"])) == 8
        for pair in fields["pairs"]:
            sides = {side: fields["answers"][pair[side]] for side in ("chosen", "rejected")}
            found.append(sides | {"question": fields["question"].removeprefix("<image>\n"), "id": pair["extra"]["id"]})
    # The questions in the order of their first pairs, and the pairs of each in theirs.
    order = list(dict.fromkeys(row["question"] for row in rows))
    wanted = sorted(rows, key=lambda row: order.index(row["question"]))
    assert [row | {"image": None} for row in found] == [row | {"image": None} for row in wanted]
    assert [sample["0.png"] for sample in samples] == [
        (tmp_path / next(row["image"] for row in rows if row["question"] == question)).read_bytes()
        for question in order
    ]


def test_every_pair_reads_as_its_line(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    index = open_index(tmp_path / "shards" / "train")
    reader = ShardReader(index)
    assert len(index) == len(rows) == 60 and len(index.members) == 8
    for number in np.random.default_rng(0).permutation(len(index)).tolist():
        record = reader.read(number)
        line = rows[int(index.key(number).rsplit("-", 1)[1]) - 1]
        assert (record.chosen, record.rejected, record.extra["id"]) == (line["chosen"], line["rejected"], line["id"])
        assert record.key == index.key(number) and record.source == f"pairs.jsonl:{int(record.key[-8:])}"
        assert record.images == ((tmp_path / line["image"]).read_bytes(),)


def test_shards_are_hardly_larger_than_the_pictures(
    tmp_path: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture
) -> None:
    commands.shard(str(tmp_path / "meta.json"), str(tmp_path / "again"), workers=1)
    assert "60 pairs of 4 questions" in capsys.readouterr().out
    pictures = sum(path.stat().st_size for path in tmp_path.glob("*.png"))
    (tar,) = (tmp_path / "shards" / "train").glob("*.tar")
    assert tar.stat().st_size < 1.1 * pictures + 10_240


def test_check_reads_each_picture_once(
    tmp_path: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture
) -> None:
    commands.check(str(tmp_path / "shards"), workers=1)
    assert "60 records, 1 shards, 4 images, 0 problems" in capsys.readouterr().out


def test_each_question_is_asked_once(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    questions = ShardQuestions(open_index(tmp_path / "shards" / "train"))
    assert len(questions) == 4 and len({questions[number].question for number in range(4)}) == 4
    assert questions[1].fields["id"] in questions.where(1)


def test_a_bad_picture_sets_all_its_pairs_aside(tmp_path: Path) -> None:
    lines = shared_rows(questions=3, answers=2, pairs=4)
    meta = annotations(tmp_path, lines)
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        commands.shard(str(meta), str(tmp_path / "out"), on_bad="quarantine", workers=1)
    listed = [json.loads(line)["where"] for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    bad = [number + 1 for number, line in enumerate(lines) if line["image"] == "1.png"]
    assert sorted(int(where.rsplit(":", 1)[1]) for where in listed) == bad
    assert len(open_index(tmp_path / "out" / "train")) == len(lines) - len(bad)


def test_only_pairs_that_agree_in_all_but_their_answers_share(tmp_path: Path) -> None:
    base = {"image": "0.png", "question": "What?", "chosen": "a", "rejected": "b"}
    lines = [
        base,
        base | {"image": "1.png"},
        base | {"question": "What now?"},
        base | {"system_prompt": "Be brief."},
        base | {"question": "<image>\nWhat?", "chosen": "c"},  # the same once its mark is in place
        base | {"image": ["0.png"], "chosen": "b", "rejected": "a"},
    ]
    commands.shard(str(annotations(tmp_path, lines)), str(tmp_path / "out"), workers=1)
    index = open_index(tmp_path / "out" / "train")
    questions: dict[int, list[str]] = {}
    for number in range(len(index)):
        questions.setdefault(index.question(number), []).append(index.key(number)[-1])
    assert sorted(questions.values()) == [["1", "5", "6"], ["2"], ["3"], ["4"]]


def test_a_question_of_very_many_pairs_is_several_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"question": "Tell me.", "chosen": f"yes {n}", "rejected": "no" * 2000} for n in range(50)]
    monkeypatch.setattr(survey, "QUESTION_BYTES", 30_000)
    commands.shard(str(annotations(tmp_path, lines)), str(tmp_path / "out"), workers=1)
    index = open_index(tmp_path / "out" / "train")
    assert len(index) == 50 and 5 <= len(index.members) <= 10
    assert [ShardReader(index).read(number).chosen for number in range(50)] == [line["chosen"] for line in lines]


def as_single_pairs(index: ShardIndex, folder: Path) -> Path:
    """The shards as earlier versions wrote them: a sample for every pair, and an index of format 2."""
    (folder / "index").mkdir(parents=True)
    reader = ShardReader(index)
    with tarfile.open(folder / "old.tar", "w") as tar:
        for number in range(len(index)):
            record = reader.read(number)
            fields = {"question": record.question, "chosen": record.chosen, "rejected": record.rejected}
            body = json.dumps(fields | {"dataset": "set", "source": record.source, "extra": record.extra}).encode()
            for name, data in (("json", body), ("0.png", record.images[0])):
                member = tarfile.TarInfo(f"{record.key}.{name}")
                member.size = len(data)
                tar.addfile(member, fileobj=io.BytesIO(data))
    commands.index(str(folder))
    made = open_index(folder)
    old = np.zeros(len(made), record_dtype(made.records.dtype["key"].itemsize, answers=False))
    for name in old.dtype.names or ():
        old[name] = made.records[name]
    summary = json.loads((folder / "index" / "index.json").read_text())
    summary["format"] = 2
    summary["arrays"]["records"] = save_array(folder / "index", "records", old)
    (folder / "index" / "index.json").write_text(json.dumps(summary))
    return folder


def test_shards_of_single_pairs_still_open(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    new = open_index(tmp_path / "shards" / "train")
    old = open_index(as_single_pairs(new, tmp_path / "old"))
    for number in range(len(new)):
        assert ShardReader(old).read(number) == ShardReader(new).read(number)
    # In the same order, since that is one of pairs; a question is then a pair.
    assert (Plan(old, 0, 8, 2).epoch_order(1) == Plan(new, 0, 8, 2).epoch_order(1)).all()
    plan = Plan(old, 0, 8, 2, pairs_per_question=15)
    assert plan.groups(plan.epoch_order(0)).tolist() == list(range(len(old)))


SPOILED = {
    "two answers, not 0 to 1": (
        {"pairs": [{"chosen": 0, "rejected": 2}]},
        "names the answer 2; the answers are 0 to 1",
    ),
    "a text": ({"pairs": [{"chosen": "0", "rejected": 1}]}, "names the answer '0'"),
    "no pair": ({"pairs": []}, "'pairs' is not a list"),
    "the same answer": ({"pairs": [{"chosen": 1, "rejected": 1}]}, "pair 0 has the same response twice"),
    "the same key": ({"pairs": [{"chosen": 0, "rejected": 1, "key": "k"}] * 2}, "the same key"),
    "a strange key": ({"pairs": [{"chosen": 0, "rejected": 1, "key": "\n"}]}, "it must be a text of 1 to 1000 bytes"),
    "an answer is a number": ({"answers": ["a", 1]}, "'answer 1' is int, not a string"),
    "too many pairs": ({"pairs": [{"chosen": 0, "rejected": 1}] * 1025}, "1,025 pairs, more than 1,024"),
    "no answers": ({"answers": None}, "'answers' is not a list of strings"),
    "a reserved mark": ({"answers": ["a", "<|im_end|>"]}, "reserved mark"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_sample_that_is_no_question_is_refused(tmp_path: Path, name: str) -> None:
    change, words = SPOILED[name]
    body = {"question": "q", "answers": ["a", "b"], "pairs": [{"chosen": 0, "rejected": 1}]} | change
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        data = json.dumps(body).encode()
        member = tarfile.TarInfo("k.json")
        member.size = len(data)
        tar.addfile(member, fileobj=io.BytesIO(data))
    with pytest.raises(InputError, match=rf"record 'k' of .*x\.tar: .*{words}"):
        commands.index(str(tmp_path))


def test_a_foreign_question_needs_no_keys(tmp_path: Path) -> None:
    body = {"question": "q", "answers": ["a", "b", "c"], "pairs": [{"chosen": 0, "rejected": n} for n in (1, 2)]}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        data = json.dumps(body).encode()
        member = tarfile.TarInfo("k.json")
        member.size = len(data)
        tar.addfile(member, fileobj=io.BytesIO(data))
    commands.index(str(tmp_path))
    index = open_index(tmp_path)
    assert [index.key(number) for number in range(2)] == ["k-0", "k-1"]
    assert [ShardReader(index).read(number).rejected for number in range(2)] == ["b", "c"]


def test_other_fields_are_kept_whatever_they_are_called(tmp_path: Path) -> None:
    """A single pair may have "answers" of its own, as in VQA; a question's other fields belong to each pair."""
    single = {"question": "q", "chosen": "a", "rejected": "b", "answers": ["x"], "pairs": 1, "key": "k"}
    several = {
        "question": "q",
        "answers": ["a", "b", "c"],
        "id": 7,
        "pairs": [{"chosen": 0, "rejected": n} for n in (1, 2)],
    }
    several["pairs"][1] |= {"id": 8, "extra": {"note": "n"}}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, body in (("one", single), ("two", several)):
            data = json.dumps(body).encode()
            member = tarfile.TarInfo(f"{name}.json")
            member.size = len(data)
            tar.addfile(member, fileobj=io.BytesIO(data))
    commands.index(str(tmp_path))
    reader = ShardReader(open_index(tmp_path))
    extras = [reader.read(number).extra for number in range(3)]
    assert extras == [{"answers": ["x"], "pairs": 1, "key": "k"}, {"id": 7}, {"id": 8, "note": "n"}]


def test_a_very_long_key_is_refused(tmp_path: Path) -> None:
    data = json.dumps({"question": "q", "chosen": "a", "rejected": "b"}).encode()
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("k" * 1001 + ".json")
        member.size = len(data)
        tar.addfile(member, fileobj=io.BytesIO(data))
    with pytest.raises(InputError, match="its name has more than 1000 bytes"):
        commands.index(str(tmp_path))


def test_an_index_that_names_members_wrongly_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    index = open_index(tmp_path / "shards" / "train")
    check_places(index.records, len(index.members), index.shards, 1)
    for row, name, value in (
        (3, "members", 1),
        (20, "first_member", 1),
        (59, "first_member", 8),
        (0, "first_member", 2),
    ):
        wrong = index.records.copy()
        wrong[row][name] = value
        with pytest.raises(ValueError, match="member"):
            check_places(wrong, len(index.members), index.shards, 1)


def test_a_row_beyond_the_pairs_of_its_sample_is_a_bad_record(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    index = open_index(tmp_path / "shards" / "train")
    longer = np.concatenate([index.records[:15], index.records[14:15]])
    reader = ShardReader(ShardIndex(index.folder, index.shards, index.datasets, longer, index.members))
    with pytest.raises(BadRecord, match="fewer pairs than the index says"):
        reader.read(15)
