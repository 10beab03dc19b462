"""Measures `mpo data shard` on pairs that share questions and images, beside the same number that share nothing.

    python benchmarks/shards.py [--questions 3000] [--pairs 4]

Both sets have as many pairs, of images of the same kind. In the first, every question has several pairs; in the second,
every pair has a question and an image of its own, as each sample of earlier versions had. CPU seconds are of one
process, all of its work included; the size is that of the tars beside the images' own.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def photograph(number: int, side: int) -> bytes:
    """A JPEG of smooth colours and some noise; with a side of 480 about 66 kB."""
    rng = np.random.default_rng(number)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((side * 4 // 3, side))
    noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-14, 15, (side, side * 4 // 3, 1), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_set(folder: Path, questions: int, pairs: int) -> None:
    """MMPR annotations; the lines of a question are spread over the file, as in sets that were joined."""
    (folder / "images").mkdir(parents=True)
    for number in range(questions):
        (folder / "images" / f"{number}.jpg").write_bytes(photograph(number % 64, 480) + number.to_bytes(4, "big"))
    words = "The triangle has a right angle, so the longest side follows from the other two. " * 8
    with (folder / "pairs.jsonl").open("w") as file:
        for pair in range(pairs):
            for number in range(questions):
                row = {"image": f"images/{number}.jpg", "question": f"What is the length of side {number}?"}
                row |= {"chosen": f"{words}{pair // 2}", "rejected": f"{words}no {pair % 2}", "id": pair}
                file.write(json.dumps(row) + "\n")
    (folder / "meta.json").write_text(json.dumps({"set": {"root": ".", "annotation": "pairs.jsonl"}}))


def sharded(folder: Path) -> tuple[float, float]:
    """CPU seconds of sharding a set, and the size of its tars beside its images."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "mpo_lightning", "data", "shard", "--workers", "1"]
    subprocess.run(
        [*command, "--meta", str(folder / "meta.json"), "--output", str(folder / "shards")],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    images = sum(path.stat().st_size for path in (folder / "images").iterdir())
    tars = sum(path.stat().st_size for path in (folder / "shards").rglob("*.tar"))
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, tars / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of a question")
    arguments = parser.parse_args()
    total = arguments.questions * arguments.pairs
    speeds = []
    for name, questions, pairs in (
        (f"{arguments.pairs} pairs a question", arguments.questions, arguments.pairs),
        ("nothing shared", total, 1),
    ):
        with tempfile.TemporaryDirectory() as folder:
            write_set(Path(folder), questions, pairs)
            seconds, size = sharded(Path(folder))
        speeds.append(total / seconds)
        print(f"{name:<22} {total:,} pairs  {seconds:7.1f} CPU s  {total / seconds:7.0f} pairs a second", end="  ")
        print(f"tars {size:.2f}x the images", flush=True)
    print(f"ratio {speeds[0] / speeds[1]:.2f}")


if __name__ == "__main__":
    main()
