"""Pairs that come in from elsewhere with something a pair has no place for; pairs on their way out, looked at before
they are shards.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mpo_lightning.commands.data import import_pairs, shard, show
from mpo_lightning.errors import InputError

USER, SAID = {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A cat."}
SWIFT: dict[str, Any] = {"messages": [USER, SAID], "rejected_response": "A dog."}
OTHER = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "A dog."}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (SWIFT | {"images": ["a.png"], "rejected_images": ["b.png"]}, "the column 'rejected_images' is filled"),
        ({"messages": [USER, SAID], "rejected_messages": OTHER}, "begins with other turns"),
        (SWIFT | {"rejected_messages": OTHER}, "leave one of them out"),
        ({"messages": [USER, SAID], "rejected_messages": 3, "rejected_response": None}, ("neither a "
                                                                                        "'rejected_response'")),
        (SWIFT | {"messages": [{"role": "system", "content": "Speak Latin."}, USER, SAID]}, "there is a system turn"),
        (SWIFT | {"images": ["none.png"]}, "'none.png' does not exist"),
        (SWIFT | {"images": ["../a.png"]}, "lies outside its root"),
        (SWIFT | {"images": ["/etc/hostname"]}, "lies outside its root"),
    ],
)  # fmt: skip
def test_what_a_pair_has_no_place_for_is_set_aside_with_the_reason(
    folder: Path, row: dict[str, Any], words: str
) -> None:
    (folder / "s.jsonl").write_text(json.dumps(SWIFT | {"images": ["a.png"]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=rf"s.jsonl:2: .*{words}"):
        import_pairs(str(folder / "s.jsonl"), str(folder / "strict"))
    with pytest.raises(SystemExit) as stopped:
        import_pairs(str(folder / "s.jsonl"), str(folder / "out"), on_bad="quarantine")
    (reason,) = (folder / "out" / "quarantine.jsonl").read_text().splitlines()
    assert stopped.value.code == 3 and words in json.loads(reason)["reason"]


def test_pages_of_annotations_and_of_shards_tell_a_pairs_history(folder: Path) -> None:
    meta = {"sample": 3, "outcome": "right", "rule": "boxed/number", "confidence": 0.95, "seed": None}
    pair = {
        "id": "chart-1-03-05",
        "image": "a.png",
        "question": "How many?",
        "chosen": "It is <4>.",
        "rejected": "It is 5.",
        "answer_gt": "4",
        "kind": "correctness",
        "chosen_meta": meta,
        "rejected_meta": meta | {"sample": 5, "outcome": "wrong"},
    }
    (folder / "chart.jsonl").write_text(json.dumps(pair) + "\n")
    (folder / "meta.json").write_text(json.dumps({"chart": {"root": ".", "annotation": "chart.jsonl"}}))
    shard(str(folder / "meta.json"), str(folder / "shards"), workers=1)
    for name, place in (("folder", folder), ("file", folder / "meta.json"), ("shards", folder / "shards" / "train")):
        show(str(place), str(folder / f"{name}.html"))
        page = (folder / f"{name}.html").read_text()
        assert "chart-1-03-05; correctness; answer 4" in page and "It is <mark>&lt;4&gt;</mark>" in page
        assert (
            "sample 3, outcome right, rule boxed/number, confidence 0.95<" in page and "sample 5, outcome wrong" in page
        )
    (folder / "chart.jsonl").write_text(json.dumps(pair | {"image": "none.png"}) + "\n")
    with pytest.raises(SystemExit):
        show(str(folder), str(folder / "bad.html"))
    assert "chart.jsonl:1: the image &#x27;none.png&#x27; does not exist" in (folder / "bad.html").read_text()
