"""Pairs in other projects' columns become MMPR annotations that `data shard` takes."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mpo_lightning.commands.data import import_pairs, shard
from mpo_lightning.data.annotations.mmpr import read_meta
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.errors import InputError

TRL = [
    {"prompt": "What is it?", "chosen": "A cat.", "rejected": "A dog.", "image": "a.png", "score": 3},
    {
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        "chosen": [{"role": "assistant", "content": "A cat!"}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "A dog!"}]}],
        "images": ["a.png"],
    },
    {
        "chosen": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}],
        "rejected": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Go."}],
    },
]
SWIFT = [
    {
        "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
        "rejected_response": "A dog.",
        "images": ["a.png"],
    },
    {
        "messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Left."}],
        "rejected_messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Right."}],
        "images": ["a.png", "b.png"],
    },
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    return tmp_path


def written(path: Path, rows: list) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def annotations(folder: Path) -> list[dict]:
    (entry,) = read_meta(folder / "meta.json")
    return [json.loads(line) for line in entry.annotation.read_text().splitlines()]


def test_trls_columns(folder: Path, capsys: pytest.CaptureFixture) -> None:
    import_pairs(written(folder / "trl.jsonl", TRL), str(folder / "out"))
    rows = annotations(folder / "out")
    assert rows[0] == {
        "score": 3,
        "image": "a.png",
        "question": "<image>\nWhat is it?",
        "chosen": "A cat.",
        "rejected": "A dog.",
    }
    assert rows[1]["question"] == "<image>\nWhat is it?" and rows[1]["rejected"] == "A dog!"
    assert rows[2] == {"question": "Hello?", "chosen": "Hi.", "rejected": "Go."}
    assert "3 pairs from the columns of trl" in capsys.readouterr().out
    shard(str(folder / "out" / "meta.json"), str(folder / "shards"), workers=1)
    assert len(open_index(folder / "shards" / "train")) == 3


def test_ms_swifts_columns(folder: Path) -> None:
    import_pairs(written(folder / "swift.jsonl", SWIFT), str(folder / "out"))
    one, two = annotations(folder / "out")
    assert one["question"] == "<image>What is it?" and one["rejected"] == "A dog." and one["image"] == "a.png"
    assert (
        two["question"] == "<image>\n<image>\nWhich?"
        and two["rejected"] == "Right."
        and two["image"] == ["a.png", "b.png"]
    )


def test_rlaif_vs_parquet_with_pictures_as_bytes(folder: Path) -> None:
    data = (folder / "a.png").read_bytes()
    rows = [
        {
            "ds_name": "x",
            "image": {"bytes": data, "path": "0.png"},
            "question": f"What {n}?",
            "chosen": "cat",
            "rejected": "dog",
            "idx": n,
        }
        for n in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "r.parquet")
    import_pairs(str(folder / "r.parquet"), str(folder / "out"))
    found = annotations(folder / "out")
    assert (
        len({row["image"] for row in found}) == 1
        and found[2]["idx"] == 2
        and found[0]["question"] == "<image>\nWhat 0?"
    )
    shard(str(folder / "out" / "meta.json"), str(folder / "shards"), workers=1)
    record = ShardReader(open_index(folder / "shards" / "train")).read(0)
    assert Image.open(io.BytesIO(record.images[0])).getpixel((0, 0)) == (255, 0, 0)


def test_bad_rows_stop_or_are_set_aside(folder: Path) -> None:
    rows = [
        *TRL,
        {"prompt": "x", "chosen": "a", "rejected": "a"},
        {
            "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "chosen": "c",
            "rejected": "d",
        },
        {"prompt": "x", "chosen": "a", "rejected": "b", "image": 7},
        {"prompt": "x", "chosen": "a"},
    ]
    source = written(folder / "trl.jsonl", rows)
    with pytest.raises(InputError, match=r"trl.jsonl:4: chosen and rejected are the same response.*quarantine"):
        import_pairs(source, str(folder / "strict"))
    with pytest.raises(SystemExit) as stopped:
        import_pairs(source, str(folder / "out"), on_bad="quarantine")
    assert stopped.value.code == 3 and len(annotations(folder / "out")) == 3
    reasons = [json.loads(line)["reason"] for line in (folder / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert (
        len(reasons) == 4
        and "only single-turn pairs" in reasons[1]
        and "an image is int" in reasons[2]
        and "'rejected' is missing" in reasons[3]
    )
    with pytest.raises(InputError, match=r"has the columns a, b; known are TRL's"):
        import_pairs(written(folder / "odd.jsonl", [{"a": 1, "b": 2}]), str(folder / "odd"))
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        import_pairs(str(folder / "broken.parquet"), str(folder / "broken"))
