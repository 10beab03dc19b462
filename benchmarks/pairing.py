"""Measures how time and memory of filtering, verifying and pairing grow, on generated responses.

    python benchmarks/pairing.py [--responses 1000000] [--samples 32] [--workers 2] [--json FILE]

Each question has --samples responses of 40 to 120 words: a step for each number, an answer in the requested form and,
as a model's responses have, a share of wrong answers, missing forms, cut ends and repetition. A tenth of --responses is
paired first, then all. Seconds are wall seconds; "CPU s" is the work of all processes, which other programs on the
machine change little. Peak memory is the largest resident size of this process, and of each worker. Expected: minutes
for a million on two cores, and memory that does not grow with the file, apart from 20 bytes a question.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mpo_lightning.prefs.options import PairingRules  # noqa: E402
from mpo_lightning.prefs.pair import make_pairs  # noqa: E402

WORDS = [
    "the",
    "bar",
    "of",
    "chart",
    "reads",
    "shows",
    "value",
    "tallest",
    "left",
    "right",
    "each",
    "sum",
    "then",
    "so",
    "add",
    "both",
    "therefore",
    "label",
    "axis",
    "number",
    "two",
    "three",
    "count",
    "from",
    "below",
    "above",
]


def write_responses(path: Path, count: int, samples: int) -> None:
    """Writes the file; the same for the same count."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for question in range(count // samples):
            answer = rng.randrange(1000)
            first = {
                "id": f"chart-{question:08d}",
                "source": f"chart{question % 5}",
                "root": str(path.parent),
                "image": [],
                "question": (f"What is the sum in chart {question}?"),
                "answer": str(answer),
                "prompt": (f"Give step by step reasoning. What is the sum in chart {question}?"),
                "kind": "plain",
                "max_tiles": 12,
            }
            for sample in range(samples):
                steps = " ".join(
                    f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randrange(100)}."
                    if rng.random() < 0.2
                    else rng.choice(WORDS)
                    for _ in range(rng.randint(40, 120))
                )
                chance = rng.random()
                said = answer if chance < 0.5 else rng.randrange(1000)
                text = (
                    f"{steps}\n\nFinal answer: {said}" if chance < 0.9 else steps if chance < 0.95 else steps[:200] * 6
                )
                row = first | {
                    "sample": sample,
                    "response": text,
                    "response_tokens": len(text) // 4,
                    "finished": chance < 0.98,
                }
                file.write(json.dumps(row) + "\n")


def processor_seconds() -> float:
    """CPU seconds of this process and of its workers that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measured(folder: Path, count: int, options: argparse.Namespace) -> dict[str, Any]:
    path = folder / "responses.jsonl"
    write_responses(path, count, options.samples)
    output = folder / "out"
    begun, worked = time.perf_counter(), processor_seconds()
    counts = make_pairs(path, output, PairingRules(), options.workers)
    seconds = time.perf_counter() - begun
    while multiprocessing.active_children():  # what they used is known when they have ended
        time.sleep(0.05)
    worked = processor_seconds() - worked
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    pairs = sum(found.numbers["pairs"] for found in counts.values())
    print(
        f"{count:>10,}{path.stat().st_size / 1e6:>10.0f}{seconds:>10.1f}{worked:>10.1f}"
        f"{count / seconds:>12,.0f}{memory:>12.0f}{pairs:>12,}",
        flush=True,
    )
    shutil.rmtree(output)
    path.unlink()
    return {"responses": count, "seconds": seconds, "processor_seconds": worked, "peak_mb": memory, "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{'responses':>10}{'MB':>10}{'seconds':>10}{'CPU s':>10}{'a second':>12}{'peak MB':>12}{'pairs':>12}")
    with tempfile.TemporaryDirectory() as folder:
        found = [measured(Path(folder), count, options) for count in (options.responses // 10, options.responses)]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
