"""Measures how long a set of millions of records takes to open, and how much memory.

    python benchmarks/index.py [--records 1000000 3000000 10000000] [--json FILE]

Records are pairs, four of a question, which stay together in the order. Indexes are generated (two members a question,
5,000 pairs a shard; tars are files of the right size without blocks on
the disk). A process of its own opens each one; its memory is counted beyond the imports. The peer is what the reference
code does: it reads every annotation line into a list (`LazySupervisedDataset`, `self.raw_data = f.readlines()`), here
lines of 800 bytes, for the smallest set only.

    open      seconds to the opened index, every byte of it compared with its hash
    order     seconds to the order of an epoch, with all repeats and shuffling
    first     seconds to the first micro-batch's records after that
    memory    megabytes of the opened index, mapped pages not counted, and with the order
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
PER_SHARD, PER_QUESTION = 5000, 4
LINE = b'{"question": "' + b"q" * 760 + b'", "chosen": "a", "rejected": "b"}\n'


def generate(folder: Path, records: int) -> None:
    """Writes an index of this number of records, and its tars as empty files of their size."""
    from mpo_lightning.data.shards.index import MEMBER, record_dtype
    from mpo_lightning.data.shards.index_summary import FORMAT, DatasetEntry, ShardEntry
    from mpo_lightning.files.named_arrays import save_array

    rng = np.random.default_rng(0)
    rows = np.zeros(records, record_dtype(14))
    numbers = np.arange(records)
    rows["key"] = np.char.mod("set-%09d", numbers)
    questions = numbers // PER_QUESTION
    rows["shard"], rows["first_member"], rows["members"] = numbers // PER_SHARD, 2 * questions, 2
    rows["chosen"], rows["rejected"] = numbers % 2, 2 + numbers // 2 % 2
    rows["dataset"] = questions % 40
    for name, most in (("tiles", 13), ("prompt_tokens", 300), ("chosen_tokens", 400), ("rejected_tokens", 400)):
        rows[name] = rng.integers(1, most, records)
    places = np.arange(2 * records // PER_QUESTION)
    members = np.zeros(len(places), MEMBER)
    members["size"], members["offset"] = 1000, 1536 * (places % (2 * PER_SHARD // PER_QUESTION)) + 512
    members["crc32"] = rng.integers(0, 2**32, len(places))
    sizes = np.bincount(rows["shard"])
    shards = [
        ShardEntry(f"{number:06}.tar", int(size), int(size) * 3072 + 1024, f"{number:064x}")
        for number, size in enumerate(sizes)
    ]
    (folder / "index").mkdir(parents=True)
    arrays = {
        name: save_array(folder / "index", name, array) for name, array in (("records", rows), ("members", members))
    }
    for shard in shards:
        with (folder / shard.name).open("wb") as file:
            file.truncate(shard.bytes)
    datasets = [asdict(DatasetEntry(f"set{number}", 1.5 if number % 4 == 0 else 1.0)) for number in range(40)]
    summary = {
        "format": FORMAT,
        "records": records,
        "arrays": arrays,
        "datasets": datasets,
        "shards": [asdict(shard) for shard in shards],
    }
    (folder / "index" / "index.json").write_text(json.dumps(summary))


def private_megabytes() -> float:
    """Memory of this process that is not a mapped file."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def measure_ours(folder: Path) -> dict[str, float]:
    from mpo_lightning.data.plan import Plan
    from mpo_lightning.data.shards.index import open_index

    empty, start = private_megabytes(), time.perf_counter()
    index = open_index(folder)
    opened, opened_megabytes = time.perf_counter(), private_megabytes() - empty
    plan = Plan(index, seed=0, global_batch_size=256, micro_batch_size=4, world_size=8, pairs_per_question=4)
    plan.epoch_order(0)
    ordered = time.perf_counter()
    next(iter(plan.rank_micro_batches(0, 0)))
    first = time.perf_counter()
    return {
        "open": opened - start,
        "order": ordered - opened,
        "first": first - ordered,
        "memory": opened_megabytes,
        "memory_with_order": private_megabytes() - empty,
    }


def measure_peer(path: Path) -> dict[str, float]:
    empty, start = private_megabytes(), time.perf_counter()
    with path.open() as file:
        lines = file.readlines()
    return {"open": time.perf_counter() - start, "memory": private_megabytes() - empty, "records": len(lines)}


def measured(kind: str, path: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, kind, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"sets": []}
    with tempfile.TemporaryDirectory() as work:
        smallest = min(arguments.records)
        lines = Path(work) / "annotations.jsonl"
        with lines.open("wb") as file:
            for _ in range(smallest):
                file.write(LINE)
        peer = measured("peer", lines)
        lines.unlink()
        print(f"{'records':>12} {'open s':>8} {'order s':>8} {'first s':>8} {'memory MB':>10} {'with order':>11}")
        for records in sorted(arguments.records):
            folder = Path(work) / str(records)
            generate(folder, records)
            ours = measured("ours", folder)
            report["sets"].append({"records": records} | ours)
            print(
                f"{records:>12,} {ours['open']:>8.2f} {ours['order']:>8.2f} {ours['first']:>8.2f} "
                f"{ours['memory']:>10.1f} "
                f"{ours['memory_with_order']:>11.1f}"
            )
    ours = report["sets"][0]
    report |= {"peer": peer, "open_ratio": peer["open"] / ours["open"], "memory_ratio": ours["memory"] / peer["memory"]}
    print(
        f"readlines of {smallest:,} annotations: {peer['open']:.2f} s, {peer['memory']:.0f} MB; the index opens "
        f"{report['open_ratio']:.1f}x "
        f"faster and takes {report['memory_ratio']:.3f}x the memory"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["peer"]):
        print(json.dumps({"ours": measure_ours, "peer": measure_peer}[sys.argv[1]](Path(sys.argv[2]))))
    else:
        main()
