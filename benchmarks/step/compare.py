"""Compares our training step with the two-sequence oracle and TRL's: same weights, same samples.

    python benchmarks/step.py [--assets ASSETS] [--peer-python P --peer-script trl_peer.py] [--json FILE]

ASSETS holds model/, data_image/ and data_text/, as TRL's side reads them; with a peer and without assets,
make_assets.py beside the peer's script makes them. Without both, a random model and synthetic pairs of the same shapes
take their place. Every variant runs in a process of its own on one thread, and they take turns. The figure is process
CPU seconds of a step (forward of policy and reference, loss, backward, clipping, AdamW), the median over steps and
rounds, for as many pairs as --batch-size says. Memory is the highest resident set beyond the one before the first step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from step.pairs import KINDS, pairs_of, pairs_of_question, step_flops
from step.variants import VARIANTS

# Large temporaries are then reused instead of returned to the kernel; for both sides.
ALLOCATOR = "glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184"
ASSETS = Path("runs/step-assets")


def run_json(command: list[str], **variables: str) -> dict[str, Any]:
    """The JSON object that a command prints last."""
    environment = os.environ | {"GLIBC_TUNABLES": ALLOCATOR, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    text = done.stdout[done.stdout.index("{") :]
    result: dict[str, Any] = json.loads(text)
    return result


def batch_size(arguments: argparse.Namespace, kind: str, variant: str) -> int:
    """Pairs in a step. One that shares takes whole questions. For the others fifteen pairs at once would need tens of
    GB, so they take as many as of other kinds; seconds are then those of a pair.
    """
    each = pairs_of_question(kind)
    return each if each > 1 and variant.startswith("ours") else int(arguments.batch_size)


def run_ours(arguments: argparse.Namespace, kind: str, variant: str) -> dict[str, Any]:
    options = {
        "kind": kind,
        "variant": variant,
        "steps": arguments.steps,
        "warmup": 1,
        "batch-size": batch_size(arguments, kind, variant),
    }
    options |= {"assets": arguments.assets} if arguments.assets else {}
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return run_json([sys.executable, "-m", "step.worker", *words], PYTHONPATH=os.pathsep.join(sys.path))


def run_peer(arguments: argparse.Namespace, kind: str, compact: bool) -> dict[str, Any]:
    """TRL's best setting: it refuses a reference cache for images; for text it has one."""
    wrapper = [str(Path(__file__).with_name("compact_peer.py"))] if compact else []
    command = [
        arguments.peer_python,
        *wrapper,
        arguments.peer_script,
        "--model",
        str(arguments.assets / "model"),
        "--data",
        str(arguments.assets / f"data_{kind}"),
        "--steps",
        str(arguments.steps),
        "--warmup",
        "1",
        "--batch-size",
        str(arguments.batch_size),
        "--threads",
        "1",
        "--json",
        *(["--precompute-ref"] if kind == "text" else []),
    ]
    found = run_json(command)
    extra = (found["peak_rss_gb"] - found["rss_before_train_gb"]) * 2**30
    return {"cpu_s": found["cpus"][1:], "loss": found["loss"][0], "extra_bytes": extra}


def measure(arguments: argparse.Namespace, kind: str) -> dict[str, dict[str, Any]]:
    """Results by name, all rounds together."""
    names = list(VARIANTS if arguments.ablation else ("oracle", "ours", "ours, live"))
    peers = ["TRL", "TRL, compact head"] if arguments.peer_python else []
    results: dict[str, list[dict[str, Any]]] = {}
    for number in range(arguments.rounds):
        for name in [*peers, *names]:
            print(f"round {number + 1} of {arguments.rounds}, {kind}: {name}", file=sys.stderr, flush=True)
            found = run_peer(arguments, kind, "compact" in name) if name in peers else run_ours(arguments, kind, name)
            results.setdefault(name, []).append(found)
    return {
        name: {
            "cpu_s": statistics.median(second for found in rounds for second in found["cpu_s"])
            * (arguments.batch_size / batch_size(arguments, kind, name)),
            "extra_gb": max(found["extra_bytes"] for found in rounds) / 2**30,
            "loss": rounds[0]["loss"],
        }
        for name, rounds in results.items()
    }


def table(kind: str, results: dict[str, dict[str, Any]], gflop: dict[bool, float], peak: float) -> str:
    first = results.get("TRL") or results["oracle"]
    lines = [f"{kind:<20}{'CPU s a step':>14}{'ratio':>8}{'extra GB':>10}{'share of peak':>15}{'loss, step 0':>14}"]
    for name, found in results.items():
        share = (
            f"{gflop[name not in ('ours', 'cached')] / found['cpu_s'] / peak:>15.2f}" if "TRL" not in name else " " * 15
        )
        lines.append(
            f"{name:<20}{found['cpu_s']:>14.2f}{first['cpu_s'] / found['cpu_s']:>8.2f}"
            f"{found['extra_gb']:>10.2f}{share}{found['loss']:>14.5f}"
        )
    return "\n".join(lines)


def ratios(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Peer over ours for time, ours over peer for memory."""
    ours, found = results["ours"], {}
    for key, name in (("vs_peer", "TRL"), ("vs_peer_compact", "TRL, compact head"), ("vs_oracle", "oracle")):
        if name in results:
            found[key] = results[name]["cpu_s"] / ours["cpu_s"]
            found[f"{key}_live_reference"] = results[name]["cpu_s"] / results["ours, live"]["cpu_s"]
    if "TRL" in results:
        found["memory_vs_peer"] = ours["extra_gb"] / results["TRL"]["extra_gb"]
    return found


def make_assets(arguments: argparse.Namespace) -> Path:
    """The peer's own random model and samples, made once."""
    if not (ASSETS / "data_text").is_dir():
        print(f"making the peer's assets in {ASSETS}", file=sys.stderr, flush=True)
        script = Path(arguments.peer_script).with_name("make_assets.py")
        subprocess.run(
            [arguments.peer_python, str(script), "--out", str(ASSETS)], check=True, stdout=subprocess.DEVNULL
        )
    return ASSETS


def matmul_peak() -> float:
    """Best GFLOP/s of a square float32 product on one thread of this machine."""
    import time

    import torch

    torch.set_num_threads(1)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(20):
        begin = time.process_time()
        left @ right
        best = min(best, time.process_time() - begin)
    return 2 * 1024**3 / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="folder with model/, data_image/ and data_text/")
    parser.add_argument(
        "--peer-python", help="python of the environment that has TRL; without it only our own variants run"
    )
    parser.add_argument("--peer-script", help="trl_peer.py")
    parser.add_argument("--json", type=Path, help="write the ratios there")
    parser.add_argument("--steps", type=int, default=3, help="steps measured in each process, after one of warm-up")
    parser.add_argument("--rounds", type=int, default=2, help="turns of all variants")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=["image", "text"])
    parser.add_argument("--batch-size", type=int, default=2, help="pairs in a step")
    parser.add_argument(
        "--no-ablation", dest="ablation", action="store_false", help="leave out the variants between oracle and ours"
    )
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.steps, arguments.batch_size) < 1:
        parser.error("--rounds, --steps and --batch-size must be at least 1")
    if arguments.assets and not (arguments.assets / "model" / "config.json").is_file():
        parser.error(f"{arguments.assets}: no model/config.json there")
    if arguments.peer_python and not arguments.assets:
        arguments.assets = make_assets(arguments)
    peak, report = matmul_peak(), {}
    print(f"one thread, best product {peak:.0f} GFLOP/s")
    for kind in arguments.kinds:
        size = batch_size(arguments, kind, "ours")
        config, pairs = pairs_of(arguments.assets, kind, size * (arguments.steps + 1))
        steps = arguments.steps * size / arguments.batch_size
        batches = [pairs[start : start + size] for start in range(size, len(pairs), size)]
        gflop = {
            live: sum(step_flops(config, batch, live) for batch in batches) / steps / 1e9 for live in (True, False)
        }
        results = measure(arguments, kind)
        print(
            f"\n{table(kind, results, gflop, peak)}\ndistinct work: {gflop[True]:.0f} GFLOP a step with a live "
            f"reference, {gflop[False]:.0f} without"
        )
        report[kind] = ratios(results) | {
            "results": results,
            "gflop": gflop[False],
            "gflop_live_reference": gflop[True],
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report | {"matmul_gflops": peak}, indent=1), encoding="utf-8")
        print(f"\nratios: {arguments.json}")
