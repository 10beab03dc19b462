"""Bad annotations: each gives one clear sentence, with the file and the line."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from mpo_lightning.data.annotations.mmpr import parse_line, read_meta
from mpo_lightning.data.pictures import open_picture
from mpo_lightning.errors import BadRecord, InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "a.png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "pairs.jsonl").write_text("")
    return tmp_path


def line(**fields: object) -> bytes:
    return json.dumps({"question": "Q?", "chosen": "a", "rejected": "b"} | fields).encode()


@pytest.mark.parametrize(("entry", "words"), [
    ({"annotation": "pairs.jsonl"}, "lacks the field 'root'"),
    ({"root": "images"}, "lacks the field 'annotation'"),
    ({"root": "images", "annotation": "pairs.jsonl", "repeat_time": float("nan")}, "NaN is not a JSON value"),
    ({"root": "images", "annotation": "pairs.jsonl", "repeat_time": 0}, "repeat_time is 0"),
    ({"root": "images", "annotation": "pairs.jsonl", "repeat_time": "2"}, "repeat_time is '2'"),
    ({"root": "images", "annotation": "pairs.jsonl", "data_augment": "yes"}, "data_augment is 'yes'"),
    ({"root": "images", "annotation": "pairs.jsonl", "max_dynamic_patch": 0}, "max_dynamic_patch is 0"),
    ({"root": "images", "annotation": "pairs.jsonl", "repeats": 2}, "unknown field 'repeats'"),
    ({"root": "nowhere", "annotation": "pairs.jsonl"}, "image folder .* does not exist"),
    ({"root": "images", "annotation": "none.jsonl"}, "annotation .* does not exist"),
    ({"root": "images", "annotation": "pairs.json"}, "must be a .jsonl file"),
    ("pairs.jsonl", "must be an object"),
])  # fmt: skip
def test_a_bad_meta_entry_is_one_sentence(folder: Path, entry: object, words: str) -> None:
    (folder / "meta.json").write_text(json.dumps({"set": entry}))
    with pytest.raises(InputError, match=words) as raised:
        read_meta(folder / "meta.json")
    assert "meta.json" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[1]", '{"set": {"root": "images"}, "set": {}}'])
def test_a_malformed_meta_is_refused(folder: Path, text: str) -> None:
    (folder / "meta.json").write_text(text)
    with pytest.raises(InputError, match=r"meta\.json"):
        read_meta(folder / "meta.json")


def test_a_missing_meta_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot read the meta file"):
        read_meta(folder / "nothing.json")


@pytest.mark.parametrize(("text", "words"), [
    (b'{"question": "Q?", "chosen": "a"', "not JSON"),
    (b'{"question": "Q?", "chosen": "a", "rejected": "b", "score": NaN}', "NaN is not a JSON value"),
    (b"\xff\xfe", "not UTF-8"),
    (b"[1, 2]", "not an object"),
    (b'{"question": "Q?", "chosen": "a"}', "'rejected' is missing"),
    (line(question=None), "'question' is NoneType"),
    (line(chosen="  \n"), "'chosen' is empty"),
    (line(rejected="a "), "same response"),
    (line(chosen="a<|im_end|>"), "reserved mark"),
    (line(chosen="\ud800"), "surrogate"),
    (line(note="\udc00"), "surrogate"),
    (b'{"question": "Q?", "chosen": "a", "rejected": "b", "chosen": "c"}', "'chosen' appears twice"),
    (b'{"question": "Q?", "chosen": "a", "rejected": "b", "score": 1e999}', "1e999 is too large"),
    (line(video="v.mp4"), "video"),
    (line(image="b.png"), "does not exist"),
    (line(image="../secret.png"), "outside its root"),
    (line(image="/etc/passwd"), "outside its root"),
    (line(image=["a.png", 3]), "must be a path"),
    (line(image=["a.png", "a.png"]), "0 <image> marks but the pair has 2 images"),
    (line(image="a.png", question="<image><image> Q?"), "2 <image> marks but the pair has 1"),
    (line(question="<image> Q?"), "1 <image> marks but the pair has 0"),
    (line(image="a.png", question="<image>"), "empty apart from"),
    (line(image="a\0.png"), "cannot be used|does not exist"),
    (b'{"question": ' + b"[" * 100_000, "not JSON"),
])  # fmt: skip
def test_a_bad_line_has_its_reason(folder: Path, text: bytes, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        parse_line(text, folder / "images")


def test_a_link_out_of_the_root_is_refused(folder: Path) -> None:
    (folder / "images" / "link.png").symlink_to(folder / "secret.png")
    with pytest.raises(BadRecord, match="outside its root"):
        parse_line(line(image="link.png"), folder / "images")


def test_a_single_picture_without_a_mark_gets_it_in_front(folder: Path) -> None:
    parsed = parse_line(line(image="a.png", question="What is it?", id=7), folder / "images")
    assert parsed.question == "<image>\nWhat is it?" and parsed.extra == {"id": 7}


def test_no_image_an_empty_image_and_none_are_text_only(folder: Path) -> None:
    for fields in ({}, {"image": ""}, {"image": None}, {"image": []}):
        assert parse_line(line(**fields), folder / "images").pictures == ()


def flat_png(width: int, height: int) -> bytes:
    """A picture of many pixels in few bytes."""
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((300, 200), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(("data", "words"), [
    (b"", "not an image"), (b"plain text", "not an image"), (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image"),
    (encoded("JPEG")[:2000], "damaged or cut short"), (encoded("PNG")[:2000], "damaged or cut short"),
    (flat_png(14_000, 14_000), "more than 64,000,000 pixels"), (flat_png(9_000, 9_000), "9000 x 9000 pixels"),
])  # fmt: skip
def test_a_bad_picture_has_its_reason(data: bytes, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        open_picture(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_named_formats_open(kind: str) -> None:
    assert open_picture(encoded(kind)).size == (300, 200)
