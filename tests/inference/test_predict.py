"""Answers to prompts: the same as plain generation gives one by one, for any cut, and none lost to a kill."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from PIL import Image
from transformers import InternVLForConditionalGeneration

from mpo_lightning.commands.model import chat
from mpo_lightning.commands.predict import predict
from mpo_lightning.errors import InputError
from mpo_lightning.models.generation import split_by_rope
from mpo_lightning.models.internvl.tiling import cut_tiles, normalize_tiles
from mpo_lightning.models.loading import load_processor
from support.commands import mpo_killed_when, ranks
from support.options import nested
from support.processes import bytes_below

OPTIONS: dict[str, Any] = {
    "engine.dtype": "float32",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "engine.num_workers": 0,
    "max_new_tokens": 12,
    "engine.max_tiles": 2,
}


@pytest.fixture(scope="module")
def questions(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven questions with one, two and no pictures."""
    folder = tmp_path_factory.mktemp("questions")
    photos = sorted((root / "examples" / "mmpr_sample" / "images" / "photos").iterdir())
    for photo in photos[:2]:
        shutil.copyfile(photo, folder / photo.name)
    one, two = (photo.name for photo in photos[:2])
    rows = [
        {"id": "a", "question": "<image>\nWhat is this?", "image": one, "answer": "4"},
        {"id": "b", "question": "Count to ten, slowly and in words that everybody understands."},
        {"question": "<image>\n<image>\nWhich is larger?", "image": [one, two]},
        {"id": 7, "question": "Why?", "image": two},
        *({"id": f"more{number}", "question": f"How many? {number}"} for number in range(3)),
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_batches_answer_as_plain_generation_does_one_by_one(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    predict(
        str(tiny_folder),
        str(tmp_path / "out.jsonl"),
        questions=str(questions),
        **nested(predict, OPTIONS | {"engine.batch_size": 4}),
    )
    rows, asked = rows_of(tmp_path / "out.jsonl"), rows_of(questions)
    assert len(rows) == len(asked) == 7
    model = InternVLForConditionalGeneration.from_pretrained(tiny_folder)
    processor = load_processor(tiny_folder)
    for row, question in zip(rows, asked, strict=True):
        assert question.items() <= row.items()
        names = [question["image"]] if isinstance(question.get("image"), str) else question.get("image", [])
        tiles = [cut_tiles(Image.open(questions.parent / name), 2 // len(names), 112) for name in names]
        text = (
            question["question"]
            if not names or "<image>" in question["question"]
            else f"<image>\n{question['question']}"
        )
        for part in tiles:
            text = text.replace("<image>", f"<img>{'<IMG_CONTEXT>' * 16 * len(part)}</img>", 1)
        ids = processor.tokenizer(processor.template.prompt(text), return_tensors="pt").input_ids
        pixels = {"pixel_values": normalize_tiles(torch.cat(tiles))} if tiles else {}
        new = model.generate(input_ids=ids, **pixels, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert row["response"] == processor.tokenizer.decode(new, skip_special_tokens=True)
        assert row["response_tokens"] == len(new) and row["finished"] == (
            int(new[-1]) == model.generation_config.eos_token_id
        )


def test_the_cut_into_batches_and_devices_changes_nothing(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    for name, options in {
        "one": {"engine.batch_size": 1},
        "many": {"engine.batch_size": 3, "engine.num_workers": 1},
    }.items():
        predict(str(tiny_folder), str(tmp_path / name), questions=str(questions), **nested(predict, OPTIONS | options))
    command = [
        "predict",
        "--model",
        tiny_folder,
        "--questions",
        questions,
        "--output",
        tmp_path / "two",
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        "--engine.num_workers=0",
        "--max_new_tokens=12",
        "--engine.max_tiles=2",
        "--engine.batch_size=2",
    ]
    done = ranks(2, "mpo", *command)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'two'}: 7 responses" in done.stdout
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes() == (tmp_path / "two").read_bytes()


def test_questions_of_shards_and_a_bad_prompt_is_a_line_with_its_reason(
    shards: Path, questions: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    predict(
        str(tiny_folder),
        str(tmp_path / "out.jsonl"),
        shards=str(shards / "validation"),
        **nested(predict, OPTIONS | {"max_new_tokens": 2}),
    )
    rows = rows_of(tmp_path / "out.jsonl")
    assert len(rows) == 8 and all({"id", "question", "chosen", "rejected", "response"} <= row.keys() for row in rows)
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        '{"question": "Hello?"}\nno json\n{"question": "<image>", "image": "../secret.png"}\n{"image": "a.png", '
        '"id": 9}\n{"question": "x", "response": "mine"}\n'
    )
    with pytest.raises(SystemExit) as stopped:
        predict(str(tiny_folder), str(tmp_path / "bad_out.jsonl"), questions=str(bad), **nested(predict, OPTIONS))
    assert stopped.value.code == 3
    good, *refused = rows_of(tmp_path / "bad_out.jsonl")
    assert isinstance(good["response"], str) and "error" not in good
    for row, words in zip(
        refused,
        [
            "not JSON",
            "lies outside its root",
            "object with a 'question'",
            "the field 'response' is reserved for the output",
        ],
        strict=True,
    ):
        assert row["response"] is None and words in row["error"] and row["where"].startswith(str(bad))
    assert refused[2]["id"] == 9


def test_what_cannot_be_asked_is_refused(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="either --questions FILE or --shards FOLDER"):
        predict(str(tiny_folder), out, **nested(predict, OPTIONS))
    with pytest.raises(InputError, match=r"--engine\.batch_size"):
        predict(str(tiny_folder), out, questions=str(questions), **nested(predict, OPTIONS | {"engine.batch_size": 0}))
    with pytest.raises(InputError, match="cannot be read"):
        predict(str(tiny_folder), out, questions=str(tmp_path / "none.jsonl"), **nested(predict, OPTIONS))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no question in it"):
        predict(str(tiny_folder), out, questions=str(tmp_path / "empty.jsonl"), **nested(predict, OPTIONS))
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        predict(str(tiny_folder), out, questions=str(questions), **nested(predict, OPTIONS))
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_a_killed_run_goes_on_and_ends_the_same(shards: Path, tiny_folder: Path, tmp_path: Path) -> None:
    train = str(shards / "train")
    predict(
        str(tiny_folder), str(tmp_path / "whole"), shards=train, **nested(predict, OPTIONS | {"engine.batch_size": 2})
    )
    command = [
        "predict",
        "--model",
        str(tiny_folder),
        "--shards",
        train,
        "--output",
        str(tmp_path / "out"),
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--engine.num_workers=0",
        "--max_new_tokens=12",
        "--engine.max_tiles=2",
        "--engine.batch_size=2",
    ]
    parts = tmp_path / "out.parts"
    assert mpo_killed_when(lambda: bytes_below(parts, "part-*") >= 500, *command) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (part,) = parts.glob("part-*")
    answered = part.read_bytes().count(b"\n")
    assert answered >= 2
    with part.open("ab") as file:
        file.write(b'[3, {"response": "cut')
    with pytest.raises(InputError, match="an unfinished run was made with max_new_tokens 12 instead of 13"):
        predict(
            str(tiny_folder), str(tmp_path / "out"), shards=train, **nested(predict, OPTIONS | {"max_new_tokens": 13})
        )
    predict(
        str(tiny_folder), str(tmp_path / "out"), shards=train, **nested(predict, OPTIONS | {"engine.batch_size": 5})
    )
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not parts.exists()


def test_chat_streams_what_predict_writes(
    questions: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    predict(str(tiny_folder), str(tmp_path / "out.jsonl"), questions=str(questions), **nested(predict, OPTIONS))
    row = rows_of(tmp_path / "out.jsonl")[3]
    capsys.readouterr()
    chat(str(tiny_folder), "Why?", str(questions.parent / row["image"]), max_new_tokens=12, max_tiles=2, device="cpu")
    shown = capsys.readouterr().out
    assert shown.startswith(row["response"]) and ("cut at --max_new_tokens 12" in shown) != row["finished"]
    with pytest.raises(InputError, match="the question cannot be asked"):
        chat(str(tiny_folder), "<image> and <image>", str(questions.parent / row["image"]))


@pytest.mark.parametrize("name", ["internlm2_gqa", "phi3_fused"])
def test_a_long_prompt_does_not_stretch_its_neighbours(golden: Path, tmp_path: Path, name: str) -> None:
    """Dynamic and long rope look at the longest of a call, and dynamic rope remembers it: 128 and 64 positions here."""
    questions = tmp_path / "q.jsonl"
    texts = ["Hello?", "why " * 60, "What is three and four?", "because " * 45, "Hi"]
    questions.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    answers = []
    for size in (1, 2, 5):
        output = tmp_path / f"out{size}"
        predict(
            str(golden / "checkpoints" / name),
            str(output),
            questions=str(questions),
            **nested(predict, OPTIONS | {"engine.batch_size": size, "max_new_tokens": 6}),
        )
        answers.append([row["response"] for row in rows_of(output)])
    assert answers[0] == answers[1] == answers[2]
    assert split_by_rope([3, 90, 5], 64, 6) == [[0, 2], [1]] and split_by_rope([3, 90], None, 6) == [[0, 1]]


def test_two_runs_do_not_write_one_output(questions: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / "out.parts.lock"), pytest.raises(InputError, match="another run is writing it"):
        predict(str(tiny_folder), str(tmp_path / "out"), questions=str(questions), **nested(predict, OPTIONS))
