"""Measures whether the cost of our step follows the distinct work: CPU seconds beside the analytic count.

    python benchmarks/step/curve.py [--questions] [--json FILE] [--picture FILE]

Seconds are measured over tiles and response tokens, or with --questions over tiles and the pairs of one question, which
share its answers. One number, the machine's speed, is fitted to the whole grid; the
points then show whether seconds grow as FLOPs do, attention's included. Vision, layers, attention and head have very
different shares at the corners of the grid. Work that was done twice in one of them, or grew faster than its count,
would push those corners away from the others.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers import InternVLForConditionalGeneration

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective
from step.pairs import QUESTIONS, config_of, step_flops, synthetic_pairs, synthetic_questions


def seconds_of_step(forward: PairForward, pairs: list, repeats: int) -> float:
    """CPU seconds of forward and backward, the median after one of warm-up."""
    objective, batch, times = MPOObjective(), collate(pairs, 448, shared_length=None), []
    for _ in range(repeats + 1):
        begin = time.process_time()
        logps, _ = forward(batch)
        objective(logps, logps.detach(), 0.0).total.mean().backward()
        times.append(time.process_time() - begin)
        forward.zero_grad()
    return statistics.median(times[1:])


def grid(arguments: argparse.Namespace, tiles: int, vocabulary: int) -> dict[int, list[EncodedPair]]:
    """The pairs of each size: response tokens of a pair, or pairs of a question."""
    if arguments.questions:
        questions = {QUESTIONS[kind][1]: synthetic_questions(kind, 1, tiles, vocabulary) for kind in QUESTIONS}
        return {1: synthetic_pairs(1, tiles, vocabulary)} | questions
    return {
        size: synthetic_pairs(1, tiles, vocabulary, chosen=size // 2, rejected=size - size // 2)
        for size in arguments.responses
    }


def draw(points: list[dict[str, float]], speed: float, picture: Path) -> None:
    """Seconds against FLOPs, a line for each number of tiles."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    most = max(point["gflop"] for point in points)
    axes.fill_between(
        [0, most], [0, most / speed * 0.85], [0, most / speed * 1.15], alpha=0.15, label="15 % around one speed"
    )
    for tiles in sorted({point["tiles"] for point in points}):
        part = [point for point in points if point["tiles"] == tiles]
        axes.plot(
            [point["gflop"] for point in part], [point["cpu_s"] for point in part], "o-", label=f"{tiles:g} tiles"
        )
    axes.set(xlabel="distinct work of a step, GFLOP", ylabel="CPU seconds", title=f"A step at {speed:.0f} GFLOP/s")
    axes.legend()
    figure.savefig(picture, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tiles", type=int, nargs="+", default=[1, 4, 7, 13], help="tiles of a pair, the thumbnail counted"
    )
    parser.add_argument(
        "--responses", type=int, nargs="+", default=[256, 1024, 4096], help="response tokens of a pair, both answers"
    )
    parser.add_argument(
        "--questions", action="store_true", help="one question with 1, 4 and 15 pairs of 1 + 1, 2 + 2 and 4 + 4 answers"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_of("toy")
    forward = PairForward(InternVLForConditionalGeneration(config)).train()
    name = "pairs" if arguments.questions else "response tokens"
    points: list[dict[str, float]] = []
    for tiles in arguments.tiles:
        for size, pairs in grid(arguments, tiles, config.text_config.vocab_size).items():
            seconds = seconds_of_step(forward, pairs, arguments.repeats)
            gflop = step_flops(config, pairs, live_reference=False) / 1e9
            points.append({"tiles": tiles, name: size, "gflop": gflop, "cpu_s": seconds})
            print(f"{tiles:>3} tiles {size:>5} {name}: {seconds:7.2f} s", file=sys.stderr, flush=True)
    # The speed at which the largest deviation to either side is the same.
    speeds = [point["gflop"] / point["cpu_s"] for point in points]
    speed = (max(speeds) + min(speeds)) / 2
    print(f"tiles{name:>17}    GFLOP    CPU s    predicted    off")
    for point in points:
        predicted = point["gflop"] / speed
        print(
            f"{point['tiles']:>5}{point[name]:>17}{point['gflop']:>9.0f}{point['cpu_s']:>9.2f}{predicted:>13.2f}"
            f"{point['cpu_s'] / predicted - 1:>7.0%}"
        )
    print(f"one speed, {speed:.0f} GFLOP/s; largest deviation {max(abs(speed / one - 1) for one in speeds):.0%}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"points": points, "gflops": speed}, indent=1))
    if arguments.picture:
        draw(points, speed, arguments.picture)


if __name__ == "__main__":
    main()
