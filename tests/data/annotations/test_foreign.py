"""Pairs in other projects' columns become MMPR annotations that `data shard` takes, or are refused by name."""

import base64
import io
import json
from pathlib import Path
from typing import Any

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


def trl(*parts: Any, chosen: Any = "A cat.", **columns: Any) -> dict[str, Any]:
    """A row whose question has the content parts."""
    return {"prompt": [{"role": "user", "content": list(parts)}], "chosen": chosen, "rejected": "A dog.", **columns}


def swift(question: str = "What is it?", **columns: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "A cat."}]
    return {"messages": messages, "rejected_response": "A dog."} | columns


QUESTION = {"role": "user", "content": "What is it?"}
ANSWER = {"role": "assistant", "content": "A cat."}
ASKED = {"type": "text", "text": "What is it?"}
CAT = [{"type": "text", "text": "A cat."}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (trl({"type": "video", "video": "a.mp4"}, ASKED), "is of the type 'video'; only text and images"),
        (trl({"type": "audio", "audio": "a.wav"}, ASKED), "is of the type 'audio'"),
        (trl({"type": "input_audio", "input_audio": {}}, ASKED), "is of the type 'input_audio'"),
        (trl({"type": "file", "file": {}}, ASKED), "is of the type 'file'"),
        (trl({"type": 7}, ASKED), "is of the type 7"),
        (trl({"text": "What is it?"}), "has no type"),
        (trl("What is it?"), "is str, neither text nor an image"),
        (trl({"type": "text", "text": None}), "the text of a part is NoneType"),
        (trl({"type": "text", "content": "What is it?"}), "a part of a turn has the field 'content'"),
        (trl({**ASKED, "image": "a.png"}), "a part of a turn has the field 'image'"),
        (trl({"type": "image", "image": "a.png", "text": "Why?"}, ASKED), "a part of a turn has the field 'text'"),
        (trl({"type": "image", "source": {"data": "x"}}, ASKED, image="a.png"), "has the field 'source'"),
        (swift(messages=[{"role": "user", "content": "What?", "images": ["a.png"]}, ANSWER]), "the field 'images'"),
        (swift(messages=[QUESTION, {**ANSWER, "reasoning_content": "Hm."}]), "the field 'reasoning_content'"),
        (swift(messages=[QUESTION, {**ANSWER, "function_call": {"name": "f"}}]), "the field 'function_call'"),
        (trl(ASKED, images=[None, "a.png"]), "an image of the list is empty"),
        (trl(ASKED, rejected_images=["b.png"]), "the column 'rejected_images' is filled"),
        (trl(ASKED, history=[["hi", "there"]]), "the column 'history' is filled"),
        (trl(ASKED, system_prompt=5), "'system_prompt' is int"),
        (swift(rejected_response=["A dog.", "A cow."]), "is a list, but not of turns"),
        (trl({"type": "image"}, ASKED), "1 images stand in the question, 1 of them without .* columns have 0 images"),
        (trl({"type": "image"}, ASKED, images=["a.png", "b.png"]), "1 of them without .* columns have 2 images"),
        (trl({"type": "image", "path": "a.png"}, ASKED, images=["b.png"]), "0 of them without .* have 1 images"),
        (trl({"type": "image", "path": "a.png", "url": "b.png"}, ASKED), "has the fields url and path"),
        (trl({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, ASKED), "is on the network; download"),
        (trl({"type": "input_image", "image_url": "HTTP://x.org/a.png"}, ASKED), "is on the network; download"),
        (trl({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}, ASKED), "base64 cannot be read"),
        (trl({"type": "image_url", "image_url": {"url": "data:image/png"}}, ASKED), "data URL has no data"),
        (trl({"type": "image_url", "image_url": {"url": "data:,hello"}}, ASKED), "not an image in a known format"),
        (trl({"type": "image", "base64": 7}, ASKED), "base64 cannot be read"),
        (trl({"type": "image", "url": "data:image/png;base64,"}, ASKED), "not an image in a known format"),
        (
            trl(ASKED, chosen=[{"role": "assistant", "content": [*CAT, {"type": "image"}]}]),
            "an answer has an image part",
        ),
        (trl(ASKED, chosen="A cat <image>."), "an answer contains the mark <image>"),
        (trl(ASKED, tools=[{"name": "f"}]), "the column 'tools' is filled"),
        (
            trl(ASKED, chosen=[{"role": "assistant", "content": "A cat.", "tool_calls": [{"name": "f"}]}]),
            "field 'tool_calls'",
        ),
        (
            {"prompt": "What?", "chosen": "a", "rejected": "b", "image": "a.png", "images": ["b.png"]},
            "different images",
        ),
        ({"prompt": "What?", "chosen": "a", "rejected": "b", "image": "https://x.org/a.png"}, "is on the network"),
        (swift(videos=["a.mp4"]), "the column 'videos' is filled"),
        (swift(audios=["a.wav"]), "the column 'audios' is filled"),
        (swift(objects={"ref": ["cat"], "bbox": [[0, 0, 1, 1]]}), "the column 'objects' is filled"),
        (swift("<video>What is it?"), "the mark <video> stands for"),
        (swift("<audio>What is it?"), "the mark <audio> stands for"),
        (swift("Where is <ref-object>?"), "the mark <ref-object> stands for"),
        (swift("What is at <bbox>?"), "the mark <bbox> stands for"),
        (swift(rejected_response=[{"role": "assistant", "content": "At <bbox>."}]), "the mark <bbox> stands for"),
        (
            swift(rejected_response=[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "A dog."}]),
            "begins with other turns than 'messages'",
        ),
        (swift(rejected_response=[]), "neither a 'rejected_response' nor"),
        ({"question": "What?", "chosen": "a", "rejected": "b", "image": "x" * 5000}, "cannot be used"),
        ({"question": "What?", "chosen": "a", "rejected": "b", "image": "y/" * 300}, "does not exist|cannot be used"),
        ({"question": "What?", "chosen": "a", "rejected": "b", "image": ["a.png", ["b.png"]]}, "an image is list"),
        ({"question": "What?", "chosen": "a", "rejected": "b", "video": "a.mp4"}, "the column 'video' is filled"),
    ],
)
def test_what_an_annotation_cannot_express_is_refused_by_name_and_line(folder: Path, row: dict, said: str) -> None:
    good = trl(ASKED) if "prompt" in row else swift() if "messages" in row else {**row, "image": None, "video": None}
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*({said})") as raised:
        import_pairs(written(folder / "rows.jsonl", [good, row]), str(folder / "out"))
    assert len(str(raised.value)) < 200 + 3 * len(str(folder)) + 100


def test_images_in_content_parts_become_files(folder: Path) -> None:
    data = (folder / "a.png").read_bytes()
    text = base64.b64encode(data).decode()
    ways = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}", "detail": "high"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{text}"},
        {"type": "image", "base64": text},
    ]
    import_pairs(written(folder / "rows.jsonl", [trl(way, ASKED) for way in ways]), str(folder / "out"))
    rows = annotations(folder / "out")
    assert len({row["image"] for row in rows}) == 1 and rows[0]["question"] == "<image>\nWhat is it?"
    assert (folder / "out/images" / rows[0]["image"]).read_bytes() == data


@pytest.mark.parametrize(
    "row",
    [
        trl({"type": "image", "path": "a.png"}, ASKED),
        trl({"type": "image", "image": "a.png", "text": None}, {**ASKED, "image": None}),
        trl({"type": "image", "url": "a.png"}, {"type": "input_text", "text": "What is it?"}),
        trl({"type": "image_url", "image_url": {"url": "file://a.png"}}, ASKED),
        trl({"type": "image", "image": {"bytes": None, "path": None}}, ASKED, images=["a.png"]),
        {"prompt": "<image>\nWhat is it?", "chosen": "A cat.", "rejected": "A dog.", "image": "a.png", "images": None},
        {"prompt": "<image>\nWhat is it?", "chosen": "A cat.", "rejected": "A dog.", "image": ["a.png"], "images": []},
        {
            "prompt": "<image>\nWhat is it?",
            "chosen": "A cat.",
            "rejected": "A dog.",
            "image": "a.png",
            "images": ["a.png"],
        },
        swift("<image>\nWhat is it?", images=["a.png"], videos=[], audios=None, objects={}, system="", tools=[]),
        swift("<image>\nWhat is it?", images=["a.png"], objects={"ref": None, "bbox": []}, tools="[]", history=[[]]),
        swift(
            "<image>\nWhat is it?",
            image="a.png",
            rejected_response=[
                {"role": "user", "content": "<image>\nWhat is it?"},
                {"role": "assistant", "content": "A dog."},
            ],
        ),
    ],
)
def test_what_says_the_same_is_the_same_pair(folder: Path, row: dict) -> None:
    import_pairs(written(folder / "rows.jsonl", [row]), str(folder / "out"))
    assert annotations(folder / "out") == [
        {"image": "a.png", "question": "<image>\nWhat is it?", "chosen": "A cat.", "rejected": "A dog."}
    ]


def test_an_import_that_fails_leaves_nothing(folder: Path) -> None:
    source = written(folder / "rows.jsonl", [trl(ASKED), trl(ASKED, chosen="A dog.")])
    with pytest.raises(InputError, match="the same response"):
        import_pairs(source, str(folder / "out"))
    written(folder / "rows.jsonl", [trl(ASKED)])
    import_pairs(source, str(folder / "out"))
    assert len(annotations(folder / "out")) == 1 and not list(folder.glob(".out*"))


def test_an_array_is_told_from_lines(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps([trl(ASKED)], indent=1))
    with pytest.raises(InputError, match=r"rows\.json: is one JSON array; write one object a line"):
        import_pairs(str(folder / "rows.json"), str(folder / "out"))


def test_columns_of_parquet_that_json_does_not_know(folder: Path) -> None:
    rows = [{"question": "What?", "chosen": "a", "rejected": "b", "score": float("nan"), "place": {"x": 1}}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    import_pairs(str(folder / "rows.parquet"), str(folder / "out"))
    assert annotations(folder / "out")[0]["score"] is None
    shard(str(folder / "out" / "meta.json"), str(folder / "shards"), workers=1)
    pq.write_table(pa.Table.from_pylist([rows[0] | {"mask": [b"x"]}]), folder / "bytes.parquet")
    with pytest.raises(InputError, match="holds bytes, which an annotation cannot"):
        import_pairs(str(folder / "bytes.parquet"), str(folder / "bytes"))
    table = pa.table(
        {"question": ["What?"], "chosen": ["a"], "rejected": ["b"], "at": pa.array([1], pa.timestamp("ns"))}
    )
    pq.write_table(table, folder / "times.parquet")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        import_pairs(str(folder / "times.parquet"), str(folder / "times"))
    twice = pa.table([pa.array(["What?"]), pa.array(["a"]), pa.array(["b"]), pa.array(["c"])],
                     names=["question", "chosen", "rejected", "rejected"])  # fmt: skip
    pq.write_table(twice, folder / "twice.parquet")
    with pytest.raises(InputError, match="two columns have the same name"):
        import_pairs(str(folder / "twice.parquet"), str(folder / "twice"))
