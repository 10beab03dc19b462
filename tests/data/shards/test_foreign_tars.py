"""Tars as other people make them: all of their records are indexed, or a sentence says which are not."""

import bz2
import gzip
import io
import json
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset as wds
from PIL import Image

from mpo_lightning.commands import data as commands
from mpo_lightning.data.shards.check import index_folder
from mpo_lightning.data.shards.index import ShardIndex, open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.errors import InputError


def picture(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, kind)
    return buffer.getvalue()


def fields(number: int) -> bytes:
    return json.dumps({"question": f"What {number}?", "chosen": "a", "rejected": "b"}).encode()


def files(folder: Path, numbers: range) -> Path:
    """The members of some samples as files."""
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number:03d}.json").write_bytes(fields(number))
        (folder / f"{number:03d}.jpg").write_bytes(picture())
    return folder


def tar(path: Path, *words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "--sort=name", "-cf", path, *words], check=True)
    return path


def indexed(folder: Path) -> ShardIndex:
    index_folder(folder, True, lambda *_: None)
    return open_index(folder)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return files(tmp_path / "files" / "set1", range(3))


@pytest.mark.parametrize("words", [("set1",), ("-C", "set1", "."), ("./set1",)], ids=" ".join)
def test_a_folder_that_was_packed_as_a_whole_is_a_shard(sample: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    tar(tmp_path / "shards/a.tar", "-C", str(sample.parent), *words)
    index = indexed(tmp_path / "shards")
    assert [ShardReader(index).read(number).question for number in range(len(index))] == [
        f"<image>\nWhat {number}?" for number in range(3)
    ]


def test_two_tars_in_one_file_are_not_taken_for_the_first(sample: Path, tmp_path: Path) -> None:
    one = tar(tmp_path / "one.tar", "-C", str(sample), ".")
    two = tar(tmp_path / "two.tar", "-C", str(files(tmp_path / "files" / "set2", range(3, 6))), ".")
    (tmp_path / "shards").mkdir()
    joined = tmp_path / "shards" / "joined.tar"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(InputError, match=r"joined\.tar: more data follow its end mark.* tar --ignore-zeros"):
        indexed(tmp_path / "shards")
    (tmp_path / "again").mkdir()
    subprocess.run(["tar", "--ignore-zeros", "-xf", joined, "-C", tmp_path / "again"], check=True)
    shutil.rmtree(tmp_path / "shards")
    tar(tmp_path / "shards/joined.tar", "-C", str(tmp_path / "again"), ".")
    assert len(indexed(tmp_path / "shards")) == 6


def test_zeros_behind_the_end_mark_are_padding(sample: Path, tmp_path: Path) -> None:
    path = tar(tmp_path / "shards/a.tar", "-b", "2000", "-C", str(sample), ".")
    with path.open("ab") as file:
        file.write(bytes(3_000_000))
    assert len(indexed(tmp_path / "shards")) == 3


@pytest.mark.parametrize(
    ("kind", "compress"), [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)]
)
def test_a_compressed_file_of_the_name_tar_is_named(
    sample: Path, tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tar(tmp_path / "shards/a.tar", "-C", str(sample), ".")
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(InputError, match=rf"a\.tar: is compressed \({kind}\); unpack it"):
        indexed(tmp_path / "shards")


def test_what_is_not_indexed_is_named(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shards = tmp_path / "shards"
    for name in ("b.tar.gz", "c.tgz", "d.TAR", "more/deep/e.tar"):
        tar(shards / name, "-C", str(sample), ".")
    with pytest.raises(InputError, match=r"no \.tar files to index; there are b\.tar\.gz, c\.tgz, d\.TAR, more/"):
        commands.index(str(shards))
    tar(shards / "a.tar", "-C", str(sample), ".")
    with pytest.raises(SystemExit, match="3"):
        commands.index(str(shards))
    said = capsys.readouterr().out
    assert "3 records indexed" in said
    for name in ("b.tar.gz (unpack it", "c.tgz (unpack it", "d.TAR (rename it", "more/ (index that folder by itself"):
        assert f"not indexed: {name}" in said


def test_files_beside_a_tar_are_no_tars(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tar(tmp_path / "shards/a.tar", "-C", str(sample), ".")
    for name in ("a.tar.idx", "a.tar.md5", "a.tar.tmp", ".b.tar.partial", ".cache/c.tar"):
        (tmp_path / "shards" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "shards" / name).write_bytes(b"x")
    commands.index(str(tmp_path / "shards"))
    assert "not indexed" not in capsys.readouterr().out


def test_what_a_mac_adds_to_a_tar_is_no_member(sample: Path, tmp_path: Path) -> None:
    for name in ("._000.jpg", "._000.json", ".DS_Store"):
        (sample / name).write_bytes(b"Mac OS X")
    tar(tmp_path / "shards/a.tar", "-C", str(sample.parent), "set1")
    assert len(indexed(tmp_path / "shards")) == 3


@pytest.mark.parametrize("augment", ["false", "true", 1, 0])
def test_augment_is_true_or_false(tmp_path: Path, augment: object) -> None:
    source = tmp_path / "files"
    source.mkdir()
    (source / "000.json").write_text(json.dumps(json.loads(fields(0)) | {"augment": augment}))
    tar(tmp_path / "shards/a.tar", "-C", str(source), "000.json")
    with pytest.raises(InputError, match=r"'augment' is .*; it must be true or false"):
        indexed(tmp_path / "shards")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("0.JPG", "JPEG"), ("jpeg", "JPEG"), ("jpe", "JPEG"), ("JFIF", "JPEG"), ("PNG", "PNG"), ("0.tiff", "TIFF"),
        ("TIF", "TIFF"), ("pgm", "PPM"), ("pnm", "PPM"), ("webp", "WEBP"), ("bmp", "BMP"), ("gif", "GIF"),
    ],
)  # fmt: skip
def test_extensions_are_known_in_every_case_as_in_webdataset(tmp_path: Path, name: str, kind: str) -> None:
    source = tmp_path / "files"
    source.mkdir()
    (source / "000.JSON").write_bytes(fields(0))
    (source / f"000.{name}").write_bytes(picture(kind))
    path = tar(tmp_path / "shards/a.tar", "-C", str(source), "000.JSON", f"000.{name}")
    index = indexed(path.parent)
    record = ShardReader(index).read(0)
    theirs = next(iter(wds.WebDataset(str(path), shardshuffle=False, empty_check=False)))
    assert record.question == "<image>\nWhat 0?" and record.images == (theirs[name.lower()],)


def test_a_byte_order_mark_is_no_part_of_json(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    source = tmp_path / "files"
    source.mkdir()
    (source / "000.json").write_bytes(mark + fields(0))
    tar(tmp_path / "shards/a.tar", "-C", str(source), "000.json")
    assert ShardReader(indexed(tmp_path / "shards")).read(0).question == "What 0?"
    (tmp_path / "pairs.jsonl").write_bytes(mark + fields(0) + b"\n" + mark + fields(1) + b"\n")
    (tmp_path / "meta.json").write_bytes(
        mark + json.dumps({"set": {"root": ".", "annotation": "pairs.jsonl"}}).encode()
    )
    commands.shard(str(tmp_path / "meta.json"), str(tmp_path / "out"), workers=1)
    assert len(open_index(tmp_path / "out/train")) == 2


def test_check_says_which_images_are_seen_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = tmp_path / "files"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(source / "000.jpg", exif=exif)
    Image.new("I;16", (30, 20), 256).save(source / "001.png")
    Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(source / "002.png")
    Image.new("RGB", (30, 20), "red").save(source / "003.png")
    for number in range(4):
        (source / f"{number:03d}.json").write_bytes(fields(number))
    tar(tmp_path / "shards/a.tar", "-C", str(source), ".")
    indexed(tmp_path / "shards")
    commands.check(str(tmp_path / "shards"))
    said = capsys.readouterr().out
    for way in ("turned upright", "transparent, on white", "of more than 8 bits, scaled"):
        assert f"  1 images {way}" in said
