"""Five hundred damaged inputs, each drawn from its number, and what becomes of each.

    python -m support.damage SHARDS ANNOTATIONS WORK    (in tests/)

prints a JSON line a case: its number, kind, and what was said of it. Exit code 1 as soon as one is taken in silence,
raises anything but the two kinds of bad input, or takes longer than 20 seconds. The last line has the memory.
"""

import io
import json
import random
import resource
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

from mpo_lightning.commands.data import shard
from mpo_lightning.data.shards.check import check_folder, index_folder
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.errors import BadRecord, InputError
from support.damaged_sidecars import sidecars

Pair = tuple[str, bytes]
CASES = 500


class Silent(Exception):
    """Damage that nobody noticed."""


# -- bytes of a file


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def many_flipped(data: bytes, rng: random.Random) -> bytes:
    for _ in range(100):
        data = flipped(data, rng)
    return data


def emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


def doubled(data: bytes, rng: random.Random) -> bytes:
    return data + data


def with_a_hole(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + 1 + rng.randrange(2000) :]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(max(1, len(data) - 512))
    return data[:start] + b"\1" * min(512, len(data) - start) + data[start + 512 :]


def reordered(data: bytes, rng: random.Random) -> bytes:
    size = max(1, len(data) // 3)
    return data[size : 2 * size] + data[:size] + data[2 * size :]


def lengthened(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(1 + rng.randrange(5000))


BYTES = (cut, flipped, many_flipped, emptied, doubled, with_a_hole, zeroed, reordered, lengthened)

# -- fields of a record


def bomb(kind: str) -> bytes:
    """A small file of 12,000 x 12,000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, kind)
    return buffer.getvalue()


def pickled() -> bytes:
    return b"cos\nsystem\n(S'touch EXECUTED'\ntR."


WRONG_VALUES: tuple[Any, ...] = (
    None,
    7,
    1.5,
    True,
    [],
    {},
    ["x"],
    "",
    "   ",
    "\ud800",
    "a <img> b",
    "<|im_end|>",
    "<image><image><image><image>",
)
RAW_JSON = (
    b'{"question": NaN, "chosen": "a", "rejected": "b"}',
    b'{"question": "q", "question": "r", "chosen": "a", "rejected": "b"}',
    b'{"question": "q", "chosen": "a", "rejected": "b", "x": 1e999}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xff\xfe\x00",
    b"null",
    b'"text"',
    b"",
    b'{"question": "q", "chosen": "a"',
    b'{"question": "' + b"x" * 5_000_000 + b'", "chosen": "a", "rejected": "b"}',
)


def spoiled_json(body: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return rng.choice(RAW_JSON)
    fields = json.loads(body)
    names = ["question", "answers", "pairs"] if "pairs" in fields else ["question", "chosen", "rejected"]
    name = rng.choice([*names, "an answer", "a pair"] if "pairs" in fields else names)
    if name == "an answer":
        fields["answers"][rng.randrange(len(fields["answers"]))] = rng.choice(WRONG_VALUES)
        return json.dumps(fields).encode()
    part = rng.choice(fields["pairs"]) if name == "a pair" else fields
    name = rng.choice(["chosen", "rejected"]) if name == "a pair" else name
    if rng.random() < 0.2:
        del part[name]
    else:
        part[name] = rng.choice([value for value in WRONG_VALUES if value is not part[name]])
    return json.dumps(fields).encode()


# -- members of a tar


def members_of(path: Path) -> list[Pair]:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def tar_of(members: list[Pair], change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            tar.addfile(info, io.BytesIO(data) if info.isfile() else None)
    return buffer.getvalue()


def spoiled_tar(members: list[Pair], rng: random.Random) -> tuple[str, bytes]:
    """What a foreign tar may be like: the kind, and its bytes."""
    place = rng.randrange(len(members))
    name, data = members[place]
    key = name.partition(".")[0]
    json_place = rng.choice([number for number, (other, _) in enumerate(members) if other.endswith(".json")])
    picture = rng.choice([number for number, (other, _) in enumerate(members) if not other.endswith(".json")])

    def at(number: int, *new: Pair) -> bytes:
        return tar_of([*members[:number], *new, *members[number + 1 :]])

    kinds: dict[str, Callable[[], bytes]] = {
        "member twice": lambda: tar_of([*members[: place + 1], members[place], *members[place + 1 :]]),
        "sample split": lambda: tar_of([*members[:1], *members[-1:], *members[1:-1]]),
        "json spoiled": lambda: at(json_place, (members[json_place][0], spoiled_json(members[json_place][1], rng))),
        "json missing": lambda: tar_of(
            [pair for pair in members if pair[0] != f"{members[picture][0].partition('.')[0]}.json"]
        ),
        "picture missing": lambda: at(picture),
        "picture spoiled": lambda: at(
            picture, (members[picture][0], rng.choice([cut, emptied])(members[picture][1][:300], rng)[:20])
        ),
        "picture bomb": lambda: at(picture, (members[picture][0], bomb(rng.choice(["PNG", "TIFF", "GIF"])))),
        "pickle": lambda: at(
            place, (name, data), (f"{key}.{rng.choice(['pyd', 'pkl', 'pickle', 'pth', 'pt', 'npy'])}", pickled())
        ),
        "pickle as json": lambda: at(json_place, (members[json_place][0], pickled())),
        "pickle as picture": lambda: at(picture, (members[picture][0], pickled())),
        "traversal": lambda: at(place, (f"{rng.choice(['../', '/', 'a/../../', '../../etc/'])}{name}", data)),
        "no name": lambda: at(place, (f".{name.partition('.')[2]}", data)),
        "not UTF-8": lambda: at(place, (f"\xff\xfe{name}", data)),
        "link": lambda: tar_of(
            members, lambda info: setattr(info, "type", tarfile.SYMTYPE) if info.name == name else None
        ),
        "device": lambda: tar_of(
            members, lambda info: setattr(info, "type", tarfile.CHRTYPE) if info.name == name else None
        ),
        "large header": lambda: with_header(
            tar_of(members), rng.choice([tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
        ),
        "holes": lambda: tar_of(
            members, lambda info: setattr(info, "type", tarfile.GNUTYPE_SPARSE) if info.name == name else None
        ),
        "claims a terabyte": lambda: claiming(tar_of(members), 10**12),
        "header flipped": lambda: header_flipped(tar_of(members), rng),
        "no end": lambda: tar_of(members)[: sum(512 + -(-len(body) // 512) * 512 for _, body in members)],
        "cut": lambda: cut(tar_of(members)[: sum(512 + -(-len(body) // 512) * 512 for _, body in members)], rng),
        "gzip": lambda: b"\x1f\x8b\x08" + rng.randbytes(3000),
        "noise": lambda: rng.randbytes(20_000),
        "empty": lambda: b"",
    }
    kind = rng.choice(sorted(kinds))
    return kind, kinds[kind]()


def claiming(tar: bytes, size: int) -> bytes:
    """The first header says another size, with a checksum that fits."""
    header = bytearray(tar[:512])
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + tar[512:]


def with_header(tar: bytes, kind: bytes, size: int = 100_000) -> bytes:
    """An extended header of that size in front."""
    info = tarfile.TarInfo("extended")
    info.type, info.size = kind, size
    body = b"x" * size
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-size % 512) + tar


def header_flipped(tar: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(148)  # the part that the checksum is followed by
    return tar[:place] + bytes([tar[place] ^ 0x41]) + tar[place + 1 :]


# -- the ways in


def read_everything(folder: Path, truth: list[Any]) -> str:
    """What reading says of damaged shards with the index they were made with."""
    said = ""
    try:
        reader = ShardReader(open_index(folder))
        for number, expected in enumerate(truth):
            try:
                if reader.read(number) != expected:
                    raise Silent(f"record {number} is another one")
            except BadRecord as error:
                said = said or str(error)
        problems = check_folder(folder, 1, lambda *_: None).problems
    except InputError as error:
        return str(error)
    if not problems:
        raise Silent("mpo data check finds nothing")
    return said or problems[0]


def own_shards(number: int, rng: random.Random, shards: Path, work: Path, truth: list[Any]) -> tuple[str, str]:
    shutil.copytree(shards, work)
    what = rng.choice(["tar", "tar", "index.json", "records", "members"])
    pattern = {"tar": "*.tar", "index.json": "index/index.json"}.get(what, f"index/{what}-*.npy")
    path = rng.choice(sorted(work.glob(pattern)))
    spoil = rng.choice(BYTES)
    damaged = spoil(path.read_bytes(), rng)
    if damaged == path.read_bytes():
        damaged = b""
    path.write_bytes(damaged)
    read = read_everything if what == "tar" else index_said
    return f"{what} {spoil.__name__}", read(work, truth)


def index_said(folder: Path, truth: list[Any]) -> str:
    """A flipped letter may leave an index that says the same of every record, such as another name of a data set."""
    try:
        return read_everything(folder, truth)
    except Silent as silent:
        if "finds nothing" not in str(silent):
            raise
        return "every record is the same"


def foreign_tar(number: int, rng: random.Random, shards: Path, work: Path) -> tuple[str, str]:
    work.mkdir()
    kind, content = spoiled_tar(members_of(rng.choice(sorted(shards.glob("*.tar")))), rng)
    (work / "x.tar").write_bytes(content)
    said = ""
    for strict in (True, False):
        try:
            report = index_folder(work, strict, lambda *_: None)
        except InputError as error:
            said = said or str(error)
            continue
        if strict or not report.refused:
            raise Silent(f"indexed with {report}")
    return f"foreign tar, {kind}", said


def annotations(number: int, rng: random.Random, source: Path, work: Path) -> tuple[str, str]:
    """A line or a picture of an annotation file is damaged; the others are good."""
    shutil.copytree(source, work, symlinks=True)
    lines = (work / "pairs.jsonl").read_bytes().splitlines()
    place = rng.randrange(len(lines))
    fields = json.loads(lines[place])
    kind = rng.choice(["json", "bytes", "image", "picture"])
    if kind == "json":
        lines[place] = spoiled_json(lines[place], rng) or b"{}"
    elif kind == "bytes":
        lines[place] = rng.choice(
            [lambda: lines[place][: rng.randrange(1, len(lines[place]) - 1)], lambda: b"\x80" + lines[place]]
        )()
    elif kind == "image":
        wrong = [
            "../secret.png",
            "/etc/passwd",
            "none.png",
            "a\0b",
            7,
            [None],
            {"a": 1},
            [fields["image"]] * 3,
            "../" * 9 + "x",
            "loop.png",
        ]
        lines[place] = json.dumps(fields | {"image": rng.choice(wrong)}).encode()
    else:
        picture = work / "own.png"
        picture.write_bytes(
            rng.choice([b"", b"x" * 100, bomb("PNG"), pickled(), (work / fields["image"]).read_bytes()[:200]])
        )
        lines[place] = json.dumps(fields | {"image": "own.png"}).encode()
    (work / "pairs.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    said = ""
    try:
        shard(str(work / "meta.json"), str(work / "strict"), workers=1)
    except InputError as error:
        said = str(error)
    if not said:
        raise Silent("sharded")
    try:
        shard(str(work / "meta.json"), str(work / "out"), workers=1, on_bad="quarantine")
        raise Silent("sharded in quarantine mode")
    except SystemExit as stopped:
        if stopped.code != 3:
            raise
    index = open_index(work / "out" / "train")
    if len(index) != len(lines) - 1 or check_folder(work / "out" / "train", 1, lambda *_: None).problems:
        raise Silent(f"{len(index)} of {len(lines) - 1} good ones are left")
    return f"annotation, {kind}", said


def one_case(number: int, shards: Path, source: Path, work: Path, truth: list[Any]) -> tuple[str, str]:
    rng = random.Random(number)
    if number % 10 == 9:
        kind, said = sidecars(rng, shards, work)
        if said is None:
            raise Silent(kind)
        return f"beside, {kind}", said
    if number % 5 in (0, 1):
        return own_shards(number, rng, shards, work, truth)
    return foreign_tar(number, rng, shards, work) if number % 5 in (2, 3) else annotations(number, rng, source, work)


def main(shards: Path, source: Path, work: Path) -> None:
    index = open_index(shards)
    truth = [ShardReader(index).read(number) for number in range(len(index))]
    before = 0
    for number in range(CASES):
        signal.alarm(20)
        folder = work / str(number)
        with redirect_stdout(io.StringIO()):
            kind, said = one_case(number, shards, source, folder, truth)
        signal.alarm(0)
        shutil.rmtree(folder)
        if not said or "\n" in said:
            raise Silent(f"case {number}, {kind}: {said!r}")
        print(json.dumps({"case": number, "kind": kind, "said": said}), flush=True)
        if number == 40:  # what every run takes is there by now
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"more_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
