"""From annotations to shards, an index, and back; and every way in which shards can be broken."""

import io
import json
import re
import resource
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from mpo_lightning.commands import data as commands
from mpo_lightning.data.annotations.survey import survey
from mpo_lightning.data.shards import index_summary
from mpo_lightning.data.shards.check import check_folder, index_folder
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.jobs import plan_shards, unique_names
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.scan import scan_shard
from mpo_lightning.data.shards.write import _sources, plan_fingerprint, write_shards
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.named_arrays import save_array


def annotated_lines(meta: Path) -> dict[str, dict]:
    lines = {}
    for name, entry in json.loads(meta.read_text()).items():
        for number, text in enumerate((meta.parent / entry["annotation"]).read_text().splitlines(), 1):
            lines[f"{name}-{number:08d}"] = json.loads(text) | {"root": meta.parent / entry["root"]}
    return lines


def write_set(folder: Path, lines: list[dict | str], **entry: object) -> Path:
    """A one-set MMPR folder with two small pictures."""
    (folder / "images").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 30), colour).save(folder / "images" / name)
    (folder / "images" / "broken.png").write_bytes(b"not a picture")
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "pairs.jsonl").write_text(text)
    (folder / "meta.json").write_text(json.dumps({"set": {"root": "images", "annotation": "pairs.jsonl"} | entry}))
    return folder / "meta.json"


def pair(number: int, **fields: object) -> dict:
    return {"question": f"Question {number}?", "chosen": f"right {number}", "rejected": f"wrong {number}"} | fields


def test_every_annotation_line_comes_back_once(shards: Path, sample_meta: Path) -> None:
    lines, seen = annotated_lines(sample_meta), {}
    for split in ("train", "validation"):
        index = open_index(shards / split)
        reader = ShardReader(index)
        for number in range(len(index)):
            seen[index.key(number)] = reader.read(number)
    assert seen.keys() == lines.keys()
    for key, record in seen.items():
        line = lines[key]
        names = line.get("image", [])
        names = [names] if isinstance(names, str) else names
        assert record.images == tuple((line["root"] / name).read_bytes() for name in names)
        assert (record.chosen, record.rejected) == (line["chosen"], line["rejected"])
        assert record.question.removeprefix("<image>\n") == line["question"].removeprefix("<image>\n")
        assert record.question.count("<image>") == len(names)
        assert record.max_tiles == (6 if key.startswith("diagrams") else None)


def test_a_plain_webdataset_pipeline_reads_the_shards(shards: Path) -> None:
    tars = sorted(str(path) for path in (shards / "train").glob("*.tar"))
    assert len(tars) > 3
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    index = open_index(shards / "train")
    assert [sample["__key__"] for sample in samples] == [index.key(number) for number in range(len(index))]
    reader = ShardReader(index)
    for number, sample in enumerate(samples):
        record = reader.read(number)
        fields = json.loads(sample["json"])
        (pair,) = fields["pairs"]
        assert [fields["answers"][pair[side]] for side in ("chosen", "rejected")] == [record.chosen, record.rejected]
        assert tuple(sample[name] for name in sorted(sample) if name[0].isdigit()) == record.images


def test_no_question_or_picture_is_on_both_sides(shards: Path) -> None:
    questions, pictures = [], []
    for split in ("train", "validation"):
        index = open_index(shards / split)
        records = [ShardReader(index).read(number) for number in range(len(index))]
        questions.append({record.question for record in records})
        pictures.append({data for record in records for data in record.images})
    assert len(questions[1]) > 0 and not questions[0] & questions[1] and not pictures[0] & pictures[1]


def test_the_same_command_makes_the_same_bytes(shards: Path, sample_meta: Path, tmp_path: Path) -> None:
    commands.shard(str(sample_meta), str(tmp_path / "again"), validation=0.125, shard_megabytes=0.3, workers=1)
    for path in shards.rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(shards)).read_bytes() == path.read_bytes(), path


def test_strict_stops_at_the_first_bad_line_and_names_it(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(1), "{", pair(3)])
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: the line is not JSON"):
        commands.shard(str(meta), str(tmp_path / "out"), workers=1)


def test_strict_stops_at_a_picture_that_cannot_be_decoded(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(1), pair(2, image="broken.png")])
    with pytest.raises(InputError, match=r"pairs\.jsonl:2: .*broken\.png: the file is not an image"):
        commands.shard(str(meta), str(tmp_path / "out"), workers=1)


def test_quarantine_writes_each_reason_counts_it_and_tells_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    bad = [
        "{",
        pair(3, image="missing.png"),
        pair(4, image="broken.png"),
        pair(5, chosen="same", rejected="same"),
        pair(6, image="../x"),
    ]
    meta = write_set(tmp_path, [pair(1), *bad, pair(7, image="a.png")])
    with pytest.raises(SystemExit) as stopped:
        commands.shard(str(meta), str(tmp_path / "out"), on_bad="quarantine", workers=1)
    assert stopped.value.code == 3
    rows = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(row["where"].rsplit(":", 1)[1] for row in rows) == ["2", "3", "4", "5", "6"]
    assert "skipped: 5 pairs" in capsys.readouterr().out
    assert [open_index(tmp_path / "out" / "train").key(number) for number in range(2)] == [
        "set-00000001",
        "set-00000007",
    ]


def test_a_killed_run_continues_with_the_tars_that_are_missing(tmp_path: Path) -> None:
    meta = write_set(tmp_path / "set", [pair(number, image="a.png" if number % 2 else "b.png") for number in range(40)])
    found = survey(meta, strict=True)

    def write(output: Path) -> None:
        write_shards(found, plan_shards(found, output, 0.0, 0, 20_000), output, strict=True, workers=1)

    write(tmp_path / "whole")
    write(tmp_path / "killed")
    tars = sorted((tmp_path / "killed" / "train").glob("*.tar"))
    assert len(tars) > 2
    # What a kill in the second tar leaves: the plan, the first tar, half of the second, no index.
    (tmp_path / "again" / ".work").mkdir(parents=True)
    (tmp_path / "again" / "train").mkdir()
    jobs = plan_shards(found, tmp_path / "again", 0.0, 0, 20_000)
    plan = plan_fingerprint(found, jobs)
    (tmp_path / "again" / ".work" / "plan").write_text(plan)
    notes = {"sources": _sources(jobs[0]), "rejected": 0}
    (tmp_path / "again" / ".work" / f"train-{tars[0].name}.json").write_text(json.dumps(notes))
    shutil.copy(tars[0], tmp_path / "again" / "train")
    kept = (tmp_path / "again" / "train" / tars[0].name).stat().st_mtime_ns
    (tmp_path / "again" / "train" / f".{tars[1].name}.partial").write_bytes(tars[1].read_bytes()[:700])
    write(tmp_path / "again")
    assert (tmp_path / "again" / "train" / tars[0].name).stat().st_mtime_ns == kept
    for path in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "moment", ["before the plan", "before the first tar", "while tidying up", "after half of it was tidied up"]
)
def test_a_run_killed_at_its_edges_continues(tmp_path: Path, moment: str) -> None:
    meta = write_set(tmp_path / "set", [pair(1, image="a.png"), pair(2), "{", pair(4)])
    found = survey(meta, strict=False)
    output = tmp_path / "out"
    jobs = plan_shards(found, output, 0.0, 0, 20_000)
    whole = write_shards(
        found, plan_shards(found, tmp_path / "whole", 0.0, 0, 20_000), tmp_path / "whole", strict=False, workers=1
    )
    (output / ".work").mkdir(parents=True)
    if moment != "before the plan":
        (output / ".work" / "plan").write_text(plan_fingerprint(found, jobs))
    if "tid" in moment:
        shutil.copytree(tmp_path / "whole", output, dirs_exist_ok=True)
        manifest = json.loads((output / "manifest.json").read_text())
        (output / "manifest.json").write_text(json.dumps(manifest | {"plan": plan_fingerprint(found, jobs)}))
    if "half" in moment:
        (output / ".work" / "plan").unlink()
    summary = write_shards(found, jobs, output, strict=False, workers=1)
    assert summary == whole and not (output / ".work").exists() and len(summary.rejected) == 1
    assert len(open_index(output / "train")) == 3


def test_shards_keep_to_their_size_and_the_announcement_is_right(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    meta = write_set(tmp_path, [pair(number, answer=f"{number}") for number in range(500)])
    commands.shard(str(meta), str(tmp_path / "out"), shard_megabytes=0.1, workers=1)
    sizes = [path.stat().st_size for path in (tmp_path / "out" / "train").glob("*.tar")]
    assert len(sizes) > 4 and max(sizes) <= 100_000
    announced = float(re.search(r"shards about ([\d.]+) MB", capsys.readouterr().out)[1])
    assert announced == pytest.approx(sum(sizes) / 1e6, rel=0.15)


def test_an_output_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    meta = write_set(tmp_path / "set", [pair(1)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        commands.shard(str(meta), str(tmp_path / "out"), workers=1)


def test_a_fraction_that_holds_out_nothing_is_refused(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(number, image="a.png") for number in range(6)])
    with pytest.raises(InputError, match="holds out no pair"):
        commands.shard(str(meta), str(tmp_path / "out"), validation=0.3, workers=1)


def test_names_of_data_sets_become_different_keys() -> None:
    assert unique_names(["a b", "a.b", "ok-1", "中"]) == ["a_b", "a_b-2", "ok-1", "_"]


# -- broken shards


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards / "train", tmp_path / "train"))


@pytest.mark.parametrize("keep", [1000, 20_480, -1024])
def test_a_shard_cut_in_the_middle_is_named(copied: Path, keep: int) -> None:
    tar = sorted(copied.glob("*.tar"))[0]
    data = tar.read_bytes()
    # Cut inside a member, at a block boundary, and just before the end mark.
    tar.write_bytes(data[:keep] if keep > 0 else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    with pytest.raises(InputError, match=rf"{tar.name}: the shard has .* bytes where the index says"):
        open_index(copied)
    with pytest.raises(InputError, match=rf"{tar.name}: the shard is (damaged or )?cut short"):
        scan_shard(tar)


def test_a_missing_shard_and_a_missing_index_are_named(copied: Path, tmp_path: Path) -> None:
    sorted(copied.glob("*.tar"))[1].unlink()
    with pytest.raises(InputError, match=r"mmpr-000001\.tar: the shard named by the index is missing"):
        open_index(copied)
    shutil.rmtree(copied / "index")
    with pytest.raises(InputError, match="run 'mpo data index"):
        open_index(copied)
    with pytest.raises(InputError, match="no such folder"):
        open_index(tmp_path / "nothing")
    with pytest.raises(InputError, match="no shards here"):
        open_index(tmp_path)


def test_one_changed_byte_is_found_by_reading_and_by_checking(copied: Path) -> None:
    index = open_index(copied)
    place = index.members[int(index.records[0]["first_member"]) + 1]
    tar = copied / index.shards[0].name
    data = bytearray(tar.read_bytes())
    data[int(place["offset"]) + 5000] ^= 1
    tar.write_bytes(data)
    with pytest.raises(BadRecord, match="checksum"):
        ShardReader(open_index(copied)).read(0)
    report = check_folder(copied, 1, lambda *_: None)
    assert len(report.problems) == 2 and "sha256" in report.problems[0] and index.key(0) in report.problems[1]


def test_check_finds_nothing_in_good_shards(shards: Path, capsys: pytest.CaptureFixture) -> None:
    commands.check(str(shards), workers=1)
    printed = capsys.readouterr().out
    assert "56 records" in printed and "8 records" in printed and " 0 problems" in printed


def foreign(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def test_foreign_shards_are_indexed_by_one_scan(tmp_path: Path) -> None:
    body = json.dumps(pair(1)).encode()
    foreign(
        tmp_path / "x.tar",
        [
            ("dir/a.json", body),
            ("dir/a.jpg", jpeg()),
            ("dir/b.1.jpg", jpeg()),
            ("dir/b.0.jpg", jpeg()),
            ("dir/b.json", json.dumps(pair(2, question="<image> <image>?")).encode()),
        ],
    )
    assert index_folder(tmp_path, True, lambda *_: None).records == 2
    index = open_index(tmp_path)
    assert [index.key(0), index.key(1)] == ["dir/a", "dir/b"]
    assert ShardReader(index).read(0).question == "<image>\nQuestion 1?" and len(ShardReader(index).read(1).images) == 2


def test_indexing_again_keeps_repeat_time(tmp_path: Path) -> None:
    meta = write_set(tmp_path / "set", [pair(1), pair(2)], repeat_time=2.5)
    commands.shard(str(meta), str(tmp_path / "out"), workers=1)
    index_folder(tmp_path / "out" / "train", True, lambda *_: None)
    assert open_index(tmp_path / "out" / "train").datasets[0].repeat_time == 2.5


def test_indexing_again_refuses_to_lose_repeat_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    meta = write_set(tmp_path / "set", [pair(1), pair(2)], repeat_time=2.5)
    commands.shard(str(meta), str(tmp_path / "out"), workers=1)
    folder = tmp_path / "out" / "train"
    (folder / "index" / "index.json").write_text("{")
    with pytest.raises(
        InputError, match=r"repeat_time of its data sets would be lost; put index\.json back, or delete"
    ):
        index_folder(folder, True, lambda *_: None)
    shutil.rmtree(folder / "index")
    commands.index(str(folder))
    assert "data set set: repeat_time 1\n" in capsys.readouterr().out


def test_a_writer_killed_before_the_last_move_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(tmp_path / "x.tar", [("a.json", json.dumps(pair(1)).encode())])
    index_folder(tmp_path, True, lambda *_: None)
    foreign(tmp_path / "y.tar", [("b.json", json.dumps(pair(2)).encode())])
    move = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == ".index.json.partial":
            raise KeyboardInterrupt
        return move(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        index_folder(tmp_path, True, lambda *_: None)
    assert len(open_index(tmp_path)) == 1 and ShardReader(open_index(tmp_path)).read(0).chosen == "right 1"
    index_folder(tmp_path, True, lambda *_: None)
    assert len(open_index(tmp_path)) == 2 and len(list((tmp_path / "index").glob("*.npy"))) == 2


def test_an_index_whose_names_lead_out_of_the_folder_is_refused(copied: Path) -> None:
    path = copied / "index" / "index.json"
    summary = json.loads(path.read_text())
    summary["shards"][0]["name"] = "../x.tar"
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match="leads out of the folder"):
        open_index(copied)


def test_fields_of_foreign_records_are_kept(tmp_path: Path) -> None:
    foreign(tmp_path / "x.tar", [("a.json", json.dumps(pair(1, answer="7", extra={"level": 2})).encode())])
    index_folder(tmp_path, True, lambda *_: None)
    assert ShardReader(open_index(tmp_path)).read(0).extra == {"answer": "7", "level": 2}


def test_the_scan_holds_one_sample_at_a_time(tmp_path: Path) -> None:
    """Twenty samples of a megabyte: the peak is of the order of one."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    members = [
        item
        for n in range(20)
        for item in ((f"{n}.json", json.dumps(pair(n)).encode()), (f"{n}.png", buffer.getvalue()))
    ]
    path = foreign(tmp_path / "x.tar", members)
    scan_shard(path)
    tracemalloc.start()
    assert scan_shard(path).entry.records == 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(buffer.getvalue()) > 1_000_000 and peak < 4 * len(buffer.getvalue())


def test_every_pair_set_aside_is_said(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(1, image="broken.png"), pair(2, image="broken.png", question="b?")])
    (tmp_path / "images" / "other.png").write_bytes(b"no picture either")
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write(json.dumps(pair(3, image="other.png")) + "\n")
    with pytest.raises(InputError, match="every pair was skipped"):
        commands.shard(str(meta), str(tmp_path / "out"), validation=0.4, on_bad="quarantine", workers=1)


def test_a_mended_picture_of_the_same_size_is_looked_at_again(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(1, image="a.png"), pair(2, image="b.png")])
    picture = tmp_path / "images" / "b.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"x" * len(whole))
    with pytest.raises(InputError, match="not an image"):
        commands.shard(str(meta), str(tmp_path / "out"), workers=1)
    picture.write_bytes(whole)
    commands.shard(str(meta), str(tmp_path / "out"), workers=1)
    assert ShardReader(open_index(tmp_path / "out" / "train")).read(1).images == (whole,)


def test_every_line_set_aside_leaves_the_reasons(tmp_path: Path) -> None:
    meta = write_set(tmp_path, ["{", "[", "null"])
    with pytest.raises(InputError, match="every pair was skipped"):
        commands.shard(str(meta), str(tmp_path / "out"), on_bad="quarantine", validation=0.5, workers=1)
    assert len((tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()) == 3
    meta = write_set(tmp_path / "empty", [])
    with pytest.raises(InputError, match="hold no pair"):
        commands.shard(str(meta), str(tmp_path / "empty" / "out"), workers=1)


@pytest.mark.parametrize(("change", "words"), [
    (lambda index: index["shards"][0].update(records=5), "do not fit together"),
    (lambda index: index["shards"][0].update(records="1"), "not whole numbers"),
    (lambda index: index["shards"].append(index["shards"][0]), "names a shard twice"),
    (lambda index: index.update(datasets=[]), "names no data set"),
    (lambda index: index["datasets"][0].update(repeat_time=-1), "repeat_time of the data set .* is -1"),
    (lambda index: index["datasets"][0].update(repeat_time=float("nan")), "NaN is not a JSON value"),
    (lambda index: index.update(shards=None), "cannot be read"),
    (lambda index: index.update(format=1), "has format 1, this version reads 2"),
])  # fmt: skip
def test_a_damaged_index_is_one_sentence(copied: Path, change, words: str) -> None:
    path = copied / "index" / "index.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match=f"the index cannot be read .*{words}" if words != "cannot be read" else words):
        check_folder(copied, 1, lambda *_: None)


def test_copies_of_a_picture_under_other_names_stay_on_one_side(tmp_path: Path) -> None:
    meta = write_set(tmp_path, [pair(number, image=f"{number % 5}-{number}.png") for number in range(20)])
    for number in range(20):
        Image.new("RGB", (40, 30), (number % 5, 0, 0)).save(tmp_path / "images" / f"{number % 5}-{number}.png")
    commands.shard(str(meta), str(tmp_path / "out"), validation=0.25, workers=1)
    sides = []
    for split in ("train", "validation"):
        index = open_index(tmp_path / "out" / split)
        sides.append({data for number in range(len(index)) for data in ShardReader(index).read(number).images})
    assert len(sides[0]) == 4 and len(sides[1]) == 1 and not sides[0] & sides[1]


@pytest.mark.parametrize(("members", "words"), [
    ([("a.json", b"{"), ("a.jpg", b"")], "not JSON"),
    ([("a.jpg", b"x")], "no member .json"),
    ([("a.json", json.dumps(pair(1)).encode()), ("a.pkl", b"x")], r"\.pkl is neither"),
    ([("a.json", json.dumps(pair(1)).encode()), ("a.0.jpg", b"x"), ("a.2.jpg", b"x")], "one is missing"),
    ([("a.json", json.dumps(pair(1)).encode()), ("a.0.jpg", b"x"), ("a.0.png", b"x")], "both image 0"),
    ([("a.json", json.dumps(pair(1)).encode()), ("a.jpg", b"x")], "not an image"),
    ([("a.json", json.dumps(pair(1, max_tiles=0)).encode())], "'max_tiles' is 0"),
])  # fmt: skip
def test_foreign_records_that_break_a_rule_are_named(tmp_path: Path, members: list, words: str) -> None:
    foreign(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=f"record 'a' of .*x.tar: .*{words}"):
        index_folder(tmp_path, True, lambda *_: None)
    with pytest.raises(InputError, match=r"no usable record; all 1 were skipped, see .*quarantine\.jsonl"):
        index_folder(tmp_path, False, lambda *_: None)
    foreign(tmp_path / "y.tar", [("b.json", json.dumps(pair(2)).encode())])
    report = index_folder(tmp_path, False, lambda *_: None)
    assert (report.records, report.refused) == (1, 1) and (tmp_path / "index" / "quarantine.jsonl").exists()
    (tmp_path / "x.tar").unlink()
    assert (
        index_folder(tmp_path, False, lambda *_: None).refused == 0
        and not (tmp_path / "index" / "quarantine.jsonl").exists()
    )


@pytest.mark.parametrize(("members", "words"), [
    ([("../a.json", b"{}")], "leads out of the archive"),
    ([(".json", b"{}")], "no name before its first dot"),
    ([("caf\udce9.json", b"{}")], r"b'caf.xe9.json' is not UTF-8"),
    ([("a.json", b"{}"), ("b.json", b"{}"), ("a.jpg", b"")], "is split or appears twice"),
    ([("a.json", b"{}"), ("a.json", b"{}")], "appears twice"),
])  # fmt: skip
def test_foreign_tars_that_are_broken_are_refused(tmp_path: Path, members: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        scan_shard(foreign(tmp_path / "x.tar", members))


def test_a_key_in_two_shards_is_refused(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        foreign(tmp_path / name, [("a.json", json.dumps(pair(1)).encode())])
    with pytest.raises(InputError, match="is in an earlier shard as well"):
        index_folder(tmp_path, True, lambda *_: None)


def test_the_index_is_memory_mapped(shards: Path) -> None:
    index = open_index(shards / "train")
    assert isinstance(index.records, np.memmap) and isinstance(index.members, np.memmap)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", 10**6),
        ("dataset", 2**32 - 1),
        ("first_member", 2**60),
        ("first_member", 2**64 - 1),
        ("members", 0),
        ("members", 10**6),
    ],
)
def test_an_index_that_points_beyond_itself_is_refused(copied: Path, column: str, value: int) -> None:
    """With the right hash in its name: made so, not damaged."""
    path = copied / "index" / "index.json"
    summary = json.loads(path.read_text())
    rows = np.load(path.with_name(summary["arrays"]["records"])).copy()
    rows[column][3] = value
    summary["arrays"]["records"] = save_array(path.parent, "records", rows)
    path.write_text(json.dumps(summary))
    with pytest.raises(
        InputError, match=r"a record names a shard or a data set that is not there|do not name every member once"
    ):
        open_index(copied)


def with_rows(copied: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Puts other records into an index, with the right hash in their name."""
    path = copied / "index" / "index.json"
    summary = json.loads(path.read_text())
    rows = change(np.load(path.with_name(summary["arrays"]["records"])).copy())
    summary["arrays"]["records"] = save_array(path.parent, "records", rows)
    path.write_text(json.dumps(summary))


@pytest.mark.parametrize("rows_at_once", [2, 2**20])
def test_an_index_that_names_one_record_twice_or_in_another_order_is_refused(
    copied: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_summary, "ROWS_AT_ONCE", rows_at_once)
    whole = open_index(copied)
    shards = len(whole.shards)
    assert shards > 1
    for change in (lambda rows: rows[[0, 0, *range(2, len(rows))]], lambda rows: rows[[1, 0, *range(2, len(rows))]]):
        with_rows(copied, change)
        with pytest.raises(InputError, match="do not name every member once"):
            open_index(copied)
        with_rows(copied, lambda _: np.array(whole.records))
        open_index(copied)
    moved = np.array(whole.records)
    moved["shard"] = moved["shard"][::-1]
    with_rows(copied, lambda _: moved)
    with pytest.raises(InputError, match="not in the order of the shards"):
        open_index(copied)
    moved["shard"] = 0
    with_rows(copied, lambda _: moved)
    with pytest.raises(InputError, match="its number of records differs from that of its shards"):
        open_index(copied)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_gigabyte_is_refused_in_little_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**30
    with (tmp_path / "bomb.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**30 + 2048)  # a hole: nothing is on the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a header of 1,073,741,824 bytes"):
        scan_shard(tmp_path / "bomb.tar")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_long_names_are_read(tmp_path: Path) -> None:
    """Their headers come in front of others as well."""
    name = "deep/" * 30 + "a-very-long-name"
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{number}.tar", "w", format=form) as tar:
            for ending, body in (("json", json.dumps(pair(number)).encode()), ("jpg", jpeg())):
                info = tarfile.TarInfo(f"{name}{number}.{ending}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
        assert scan_shard(tmp_path / f"{number}.tar").entry.records == 1


def test_an_index_of_many_megabytes_is_refused_unread(copied: Path) -> None:
    path = copied / "index" / "index.json"
    path.write_text(path.read_text()[:-1].rstrip("}\n ") + ', "x": [' + "[]," * 6_000_000 + "0]}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="the limit for a sidecar is 16,777,216"):
        open_index(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
