"""Shards behind a server, which dies, stalls, cuts short or lies; and several folders as one."""

import json
import multiprocessing
import pickle
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from mpo_lightning.commands.run import run as run_verb
from mpo_lightning.data.dataset import PairDataset
from mpo_lightning.data.plan import MicroBatch, Occurrence, Plan
from mpo_lightning.data.shards.index import ShardIndex, open_index
from mpo_lightning.data.shards.join import open_shards
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.remote import LostShard
from mpo_lightning.errors import InputError
from mpo_lightning.files import fetch
from mpo_lightning.files.named_arrays import save_array
from mpo_lightning.models.loading import load_processor
from mpo_lightning.training import MMPRDataModule
from support.runs import logged, make_run
from support.server import Faults, served

PLENTY = 2**30


@pytest.fixture
def server(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Faults]]:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "STALL", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    with served(shards) as found:
        yield found


@pytest.fixture
def to_spoil(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index.json of shards of one's own, which are to be served."""
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    shutil.copytree(shards / "train", tmp_path / "served")
    return tmp_path / "served" / "index" / "index.json"


def tars(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.tar"))


def same_records(one: ShardIndex, two: ShardIndex) -> None:
    ours, theirs = ShardReader(one), ShardReader(two)
    assert len(one) == len(two) > 0
    for number in range(len(one)):
        assert ours.read(number) == theirs.read(number)


def test_remote_records_are_the_local_ones(server: tuple[str, Faults], shards: Path, tmp_path: Path) -> None:
    url, faults = server
    index = open_shards(f"{url}/train/", PLENTY)
    assert not tars(tmp_path)  # nothing before it is needed
    same_records(index, open_index(shards / "train"))
    assert index.fingerprint == open_index(shards / "train").fingerprint
    assert index.where(0).startswith("record 'photos-") and url in index.where(0)
    same_records(open_shards(f"{url}/train", PLENTY), index)
    assert all(faults.requests[shard.name] == 1 for shard in index.shards)
    assert len(tars(tmp_path)) == len(index.shards) == 6
    assert not list((tmp_path / "cache").rglob("*.partial"))


@pytest.mark.parametrize("fault", ["error", "cut", "lie", "more", "stall", "close"])
def test_a_fault_that_passes_is_survived(server: tuple[str, Faults], shards: Path, fault: str) -> None:
    url, faults = server
    faults.waiting["index.json"] = [fault]
    times = 2 if fault == "stall" else 3
    faults.waiting[".npy"] = [fault] * 2
    faults.waiting[".tar"] = [fault] * times
    same_records(open_shards(f"{url}/train", PLENTY), open_index(shards / "train"))
    assert not any(faults.waiting.values())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error", "500"),
        ("cut", "payload is not completed|Response payload"),
        ("lie", "its bytes differ from the index's sha256"),
        ("more", "it sends more than the expected .* bytes"),
        ("stall", "no answer for 0.5 seconds"),
        ("trickle", "it sent .* bytes in"),
        ("close", "disconnected"),
    ],
)
def test_a_fault_that_stays_is_named(server: tuple[str, Faults], fault: str, words: str, tmp_path: Path) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    name = index.shards[0].name
    attempts = 3 if fault in ("stall", "trickle") else 6
    faults.waiting[name] = [fault] * 100
    reader = ShardReader(index)
    for number in (0, 1, 0):
        assert index.records[number]["shard"] == 0
        with pytest.raises(
            LostShard,
            match=rf"its shard cannot be fetched \({url}.*{name}: {attempts} attempts failed; last error: .*({words})",
        ):
            reader.read(number)
    # Another reader of the same run, as in a second loader process, takes the answer that the first one got.
    with pytest.raises(LostShard, match=f"{attempts} attempts"):
        ShardReader(index).read(0)
    # aiohttp itself asks once more on a new connection where one was closed.
    assert faults.requests[name] == attempts * (2 if fault == "close" else 1)
    assert not tars(tmp_path) and not list((tmp_path / "cache").rglob("*.partial"))


def test_a_micro_batch_of_a_dead_server_waits_for_one_shard_only(
    server: tuple[str, Faults], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    faults.waiting[".tar"] = ["error"] * 1000
    dataset = PairDataset(ShardReader(index), load_processor(tiny_folder).encoder(12, 1024, "truncate"))
    every = tuple(Occurrence(number, 0, 0) for number in range(len(index)))
    batches = [dataset[MicroBatch(tuple((one,) for one in every), len(every), True)] for _ in range(2)]
    assert all(len(batch.set_aside) == len(index) and all(item.fatal for item in batch.set_aside) for batch in batches)
    asked = {name: count for name, count in faults.requests.items() if name.endswith(".tar")}
    assert asked == {index.shards[int(index.records[0]["shard"])].name: 6}


def test_what_the_fetching_ahead_has_just_failed_at_is_not_asked_for_again(server: tuple[str, Faults]) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    faults.waiting[index.shards[0].name] = ["error"] * 1000
    reader = ShardReader(index)
    reader.ahead([0])
    with pytest.raises(LostShard, match="6 attempts"):
        reader.read(0)
    assert faults.requests[index.shards[0].name] == 6


def test_a_later_run_asks_again(server: tuple[str, Faults], shards: Path) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    faults.waiting[index.shards[0].name] = ["error"] * 6
    with pytest.raises(LostShard, match="6 attempts"):
        ShardReader(index).read(0)
    assert ShardReader(open_shards(f"{url}/train", PLENTY)).read(0) == ShardReader(open_index(shards / "train")).read(0)


def test_the_pauses_of_a_fetch_are_less_than_half_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slept: list[float] = []
    monkeypatch.setattr("mpo_lightning.files.fetch.time.sleep", slept.append)

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(fetch, "_download", refuse)
    with pytest.raises(fetch.CannotFetch, match="6 attempts failed; last error: refused"):
        fetch.fetch("http://127.0.0.1:9/x", tmp_path / "x", lambda path: None)
    assert len(slept) == 5 and sum(slept) < 30


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_asked_for_once(server: tuple[str, Faults], status: int) -> None:
    url, faults = server
    if status == 401:
        faults.password = "user:other"
    else:
        faults.waiting["index.json"] = ["refused"] * 9
    with pytest.raises(InputError, match=rf"access is refused \({status}.*~/\.netrc"):
        open_shards(f"{url}/train", PLENTY)
    assert faults.requests["index.json"] == 1


def spoiled_summary(change: str, summary: dict) -> None:
    shard = summary["shards"][0]
    if change.startswith("records"):
        summary["records"] = {"records text": "3", "records list": [1]}[change]
    elif change.startswith("name"):
        shard["name"] = {"name nul": "a\0b.tar", "name long": "x" * 300, "name list": ["x"]}[change]
    elif change == "data set":
        summary["datasets"][0]["name"] = ["x"]
    else:
        summary["arrays"]["records"] = summary["arrays"]["members"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("records text", "its number of records is '3'"),
        ("records list", r"its number of records is \[1\]"),
        ("name nul", "is not a file name"),
        ("name long", "is not a file name"),
        ("name list", "is not a file name"),
        ("data set", r"the name of a data set is \['x'\]"),
        ("array", "do not match its name"),
        ("nested", "nested too deeply"),
    ],
)
def test_an_index_that_lies_is_named_with_its_url(to_spoil: Path, change: str, words: str) -> None:
    summary = json.loads(to_spoil.read_text())
    if change != "nested":
        spoiled_summary(change, summary)
    to_spoil.write_text("[" * 200_000 if change == "nested" else json.dumps(summary))
    with served(to_spoil.parents[1]) as (url, _), pytest.raises(InputError, match=words) as raised:
        open_shards(url, PLENTY)
    assert url in str(raised.value) and "mpo data index" not in str(raised.value) and "\n" not in str(raised.value)


def test_records_that_point_nowhere_are_named_with_the_url(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    shutil.copytree(shards / "train", tmp_path / "served")
    path = tmp_path / "served" / "index" / "index.json"
    summary = json.loads(path.read_text())
    rows = np.load(path.with_name(summary["arrays"]["records"]))
    rows["shard"] = 99
    summary["arrays"]["records"] = save_array(path.parent, "records", rows)
    path.write_text(json.dumps(summary))
    with served(tmp_path / "served") as (url, _), pytest.raises(InputError) as raised:
        open_shards(url, PLENTY)
    assert str(raised.value).startswith(
        f"{url}: the index cannot be used (a record names a shard"
    ) and "mpo data" not in str(raised.value)


@pytest.mark.parametrize("verb", ["check", "show", "index"])
def test_verbs_that_read_a_folder_say_so_of_a_url(tmp_path: Path, verb: str) -> None:
    more = ["--output", str(tmp_path / "page.html")] if verb == "show" else []
    with pytest.raises(
        InputError, match=r"^http://127.0.0.1:9/train: this command reads shards on this machine, not at a URL"
    ):
        run_verb(f"data {verb}", ["http://127.0.0.1:9/train", *more])


def test_what_is_not_there_is_named_at_once(server: tuple[str, Faults]) -> None:
    url, faults = server
    with pytest.raises(InputError, match=r"the shards' index cannot be fetched \(.*index.json: no such file\)"):
        open_shards(f"{url}/elsewhere", PLENTY)
    assert faults.requests["index.json"] == 1
    with pytest.raises(
        InputError, match=r"bogus://x.*the shards' index cannot be fetched .*no installed package reads bogus:"
    ):
        open_shards("bogus://x", PLENTY)
    with pytest.raises(InputError, match=r"a shard has .* raise data.cache_gib"):
        open_shards(f"{url}/train", 1000)


def test_the_cache_stays_within_its_bound(server: tuple[str, Faults], shards: Path, tmp_path: Path) -> None:
    url, faults = server
    local = open_index(shards / "train")
    bound = sum(sorted(shard.bytes for shard in local.shards)[-2:])
    index = open_shards(f"{url}/train", bound)
    reader, truth = ShardReader(index, max_open=1), ShardReader(local)
    for number in np.random.default_rng(0).permutation(len(index)):
        assert reader.read(int(number)) == truth.read(int(number))
        assert sum(path.stat().st_size for path in tars(tmp_path)) <= bound
    assert sum(count for name, count in faults.requests.items() if name.endswith(".tar")) > len(index.shards)


def test_shards_come_ahead_of_need_and_stay(server: tuple[str, Faults], tmp_path: Path) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    plan = Plan(index, seed=0, global_batch_size=4, micro_batch_size=4, window=2)
    first, *_, last = plan.rank_micro_batches(0, 0)
    order = [int(index.records[row]["shard"]) for row in plan.epoch_order(0)[:, 0]]
    assert first.ahead == tuple(dict.fromkeys(order))[:4] and set(last.ahead) <= set(order[-8:])
    reader = ShardReader(index)
    reader.ahead(first.ahead)
    end = time.monotonic() + 20
    while len(tars(tmp_path)) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert {path.name.partition("-")[2] for path in tars(tmp_path)} == {
        index.shards[shard].name for shard in first.ahead
    }
    before = Counter(faults.requests)
    reader.read(int(plan.epoch_order(0)[0, 0]))
    assert faults.requests == before


def read_all(url: str, results: "multiprocessing.Queue[int]") -> None:
    index = open_shards(url, PLENTY)
    reader = ShardReader(index)
    results.put(sum(len(reader.read(number).question) for number in range(len(index))))


def test_processes_of_a_machine_fetch_once(server: tuple[str, Faults], shards: Path) -> None:
    url, faults = server
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=read_all, args=(f"{url}/train", results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    local = open_index(shards / "train")
    assert len(set(found)) == 1 and all(faults.requests[shard.name] == 1 for shard in local.shards)


def test_shards_that_were_made_anew_are_fetched_anew(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    shutil.copytree(shards / "train", folder)
    with served(folder) as (url, _):
        same_records(open_shards(url, PLENTY), open_index(folder))
        shutil.rmtree(folder)
        shutil.copytree(shards / "validation", folder)
        same_records(open_shards(url, PLENTY), open_index(shards / "validation"))


def test_a_reader_in_another_process_keeps_to_the_index_it_was_made_with(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    shutil.copytree(shards / "train", folder)
    with served(folder) as (url, _):
        reader = ShardReader(open_shards(url, PLENTY))
        first = reader.read(0)
        shutil.rmtree(folder)
        shutil.copytree(shards / "validation", folder)
        assert open_shards(url, PLENTY).fingerprint != reader.index.fingerprint
        assert pickle.loads(pickle.dumps(reader)).read(0) == first  # noqa: S301


def test_a_copy_that_was_damaged_or_dropped_is_fetched_again(
    server: tuple[str, Faults], shards: Path, tmp_path: Path
) -> None:
    url, faults = server
    index = open_shards(f"{url}/train", PLENTY)
    truth = ShardReader(open_index(shards / "train")).read(0)
    ShardReader(index).read(0)
    (copy,) = tars(tmp_path)
    copy.write_bytes(bytes(copy.stat().st_size))
    assert ShardReader(index).read(0) == truth and faults.requests[index.shards[0].name] == 2
    copy.unlink()
    assert ShardReader(index).read(0) == truth and faults.requests[index.shards[0].name] == 3
    faults.waiting[index.shards[0].name] = ["lie"] * 100
    copy.write_bytes(bytes(copy.stat().st_size))
    with pytest.raises(LostShard, match="differ from the index's sha256"):
        ShardReader(index).read(0)


@pytest.mark.parametrize("sha256", ["/tmp/elsewhere/", "../../x", "", 7, "0" * 63])
def test_an_index_cannot_lead_out_of_the_cache(to_spoil: Path, sha256: object) -> None:
    summary = json.loads(to_spoil.read_text())
    summary["shards"][0]["sha256"] = sha256
    to_spoil.write_text(json.dumps(summary))
    with (
        served(to_spoil.parents[1]) as (url, _),
        pytest.raises(InputError, match=r"the sha256 of mmpr-000000.tar is not a sha256"),
    ):
        open_shards(url, PLENTY)


def test_an_index_that_names_more_records_than_there_is_room_for_is_refused(to_spoil: Path) -> None:
    """The arrays are not fetched: what they may take is the server's own word."""
    to_spoil.write_text(json.dumps(json.loads(to_spoil.read_text()) | {"records": 10**9}))
    with served(to_spoil.parents[1]) as (url, faults):
        with pytest.raises(InputError, match=r"it names 1,000,000,000 records, and its shards have room for"):
            open_shards(url, PLENTY)
        assert not any(name.endswith(".npy") for name in faults.requests)


def fill(url: str, bound: int, folder: Path, largest: "multiprocessing.Queue[int]", seed: int) -> None:
    reader = ShardReader(open_shards(url, bound), max_open=1)
    most = 0
    for number in np.random.default_rng(seed).permutation(len(reader.index)):
        reader.read(int(number))
        most = max(most, sum(map(size_of, [*folder.rglob("*.tar"), *folder.rglob("*.partial")])))
    largest.put(most)


def size_of(path: Path) -> int:
    """Bytes; 0 for a file that another process has just dropped or renamed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_several_processes_stay_within_one_bound(server: tuple[str, Faults], shards: Path, tmp_path: Path) -> None:
    url, _ = server
    bound = sum(sorted(shard.bytes for shard in open_index(shards / "train").shards)[-2:])
    context = multiprocessing.get_context("fork")
    largest = context.Queue()
    workers = [
        context.Process(target=fill, args=(f"{url}/train", bound, tmp_path / "cache", largest, seed))
        for seed in range(4)
    ]
    for worker in workers:
        worker.start()
    found = [largest.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    # A file may be counted under both of its names while it gets its last one.
    assert max(found) <= bound + max(shard.bytes for shard in open_index(shards / "train").shards)
    assert not list((tmp_path / "cache").rglob("*.room"))


def test_a_run_on_remote_shards_is_the_run_on_local_ones(
    server: tuple[str, Faults], shards: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    url, faults = server
    faults.waiting[".tar"] = ["cut", "lie", "close"]
    for name, train in (("local", str(shards / "train")), ("remote", f"{url}/train")):
        data = {"num_workers": 2, "global_batch_size": 8, "cache_gib": 0.001}
        trainer, model, module = make_run(tmp_path / name, tiny_folder, Path(train), data=data)
        module.folders["train"] = train
        trainer.fit(model, module)
    assert logged(tmp_path / "remote", "train/loss") == logged(tmp_path / "local", "train/loss")


def test_a_server_that_dies_stops_the_run_with_a_sentence_in_quarantine_mode_too(
    server: tuple[str, Faults], tiny_folder: Path, tmp_path: Path
) -> None:
    url, faults = server
    faults.waiting[".tar"] = [""] * 2 + ["close"] * 1000
    trainer, model, module = make_run(tmp_path / "run", tiny_folder, Path("x"), data={"on_bad_record": "quarantine"})
    module.folders["train"] = f"{url}/train"
    with pytest.raises(InputError, match=r"its shard cannot be fetched .* resume with --ckpt_path auto when it can"):
        trainer.fit(model, module)


def test_folders_are_joined_by_their_weights(shards: Path, server: tuple[str, Faults]) -> None:
    url, _ = server
    one, two = open_index(shards / "train"), open_index(shards / "validation")
    joined = open_shards({str(shards / "train"): 1, f"{url}/validation": 3}, PLENTY)
    assert len(joined) == len(one) + len(two)
    assert [entry.repeat_time for entry in joined.datasets] == [entry.repeat_time for entry in one.datasets] + [
        3 * entry.repeat_time for entry in two.datasets
    ]
    for reader in (ShardReader(joined), pickle.loads(pickle.dumps(ShardReader(joined)))):  # noqa: S301
        for number in range(len(joined)):
            part, own = (one, number) if number < len(one) else (two, number - len(one))
            assert reader.read(number) == ShardReader(part).read(own)
    assert f"{url}/validation" in joined.where(len(joined) - 1) and str(shards / "train") in joined.where(0)
    taken = Counter(int(record) for record in Plan(joined, 0, 4, 4).epoch_order(0)[:, 0])
    single = Counter(int(record) for record in Plan(one, 0, 4, 4).epoch_order(0)[:, 0])
    assert all(taken[number] == single[number] for number in range(len(one)))
    assert sum(taken[number] for number in range(len(one), len(joined))) == 3 * len(two)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), "2"])
def test_a_weight_is_a_positive_number(shards: Path, weight: object) -> None:
    with pytest.raises(InputError, match=r"the weight of .* give a number above 0"):
        open_shards({str(shards / "train"): weight}, PLENTY)


def test_a_url_holds_no_signature_and_no_password(server: tuple[str, Faults]) -> None:
    plain = f"{server[0]}/train"
    known = plain.replace("://", "://someone:secret@")
    for url in (
        f"{plain}?sig=secret",
        f"{plain}#secret",
        known,
        f"{known}?sig=secret",
        f"simplecache::{known}",
        plain.replace("://", "://secret@"),
        plain.replace("://", "://me:s3#secret@"),
    ):
        with pytest.raises(
            InputError, match=r"^http://\.\.\.: a URL of shards may contain no password .*~/\.netrc"
        ) as refused:
            open_shards(url, PLENTY)
        assert "secret" not in str(refused.value)
    with pytest.raises(InputError, match="not a URL"):
        open_shards("http://[host/train", PLENTY)


def test_a_secret_is_refused_before_the_options_are_written(tiny_folder: Path, shards: Path) -> None:
    for options in (
        {"validation": "https://a:b@host/x"},
        {"test": "https://a:b@host/x"},
        {"train": {"https://a:b@host/x": 1.0}},
    ):
        with pytest.raises(InputError, match="may contain no password"):
            MMPRDataModule(str(tiny_folder), **{"train": str(shards / "train")} | options)


def test_a_password_comes_from_netrc(
    server: tuple[str, Faults], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, faults = server
    faults.password = "someone:secret"
    with pytest.raises(InputError, match="401"):
        open_shards(f"{url}/train", PLENTY)
    (tmp_path / "netrc").write_text(f"machine {urlsplit(url).hostname} login someone password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    same_records(open_shards(f"{url}/train", PLENTY), open_index(shards / "train"))


@pytest.mark.parametrize(("fault", "words"), [("loop", "TooManyRedirects"), ("page", "it is not JSON")])
def test_an_answer_that_is_none_is_named(server: tuple[str, Faults], fault: str, words: str) -> None:
    url, faults = server
    faults.waiting["index.json"] = [fault] * 100
    with pytest.raises(InputError, match=words):
        open_shards(f"{url}/train", PLENTY)


def test_a_folder_by_two_names_is_no_mixture(shards: Path, server: tuple[str, Faults], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shards / "train")
    for folders in (
        (str(shards / "train"), f"{shards}/train/"),
        (str(shards / "train"), str(tmp_path / "link")),
        (f"{server[0]}/train", f"{server[0]}/train/"),
    ):
        with pytest.raises(
            InputError, match=f"{re.escape(folders[0])} and {re.escape(folders[1])} are the same folder; give it once"
        ):
            open_shards(dict.fromkeys(folders, 1.0), PLENTY)


def test_what_selects_nothing_is_named_where_it_lies(shards: Path) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(str(shards / 'validation'))}/.*: a repeat_time"):
        _ = Plan(open_shards({str(shards / "train"): 1, str(shards / "validation"): 1e-6}, PLENTY), 0, 4, 4)


def test_a_joined_run_trains_on_all_of_its_folders(shards: Path, tiny_folder: Path, tmp_path: Path) -> None:
    trainer, model, module = make_run(tmp_path, tiny_folder, Path("x"), data={"global_batch_size": 16})
    module.folders["train"] = {str(shards / "train"): 1, str(shards / "validation"): 2}
    trainer.fit(model, module)
    counts = [
        json.loads((shards / name / "index/index.json").read_text())["records"] for name in ("train", "validation")
    ]
    assert sum(logged(tmp_path, "train/pairs")) == counts[0] + 2 * counts[1]
