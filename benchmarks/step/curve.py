"""Does the cost of our step follow the distinct work? CPU seconds over tiles and response tokens, beside the analytic count.

    python benchmarks/step/curve.py [--json FILE]

Products of different shapes run at different speeds on one machine (a vision tower's, a vocabulary's, attention's), so the prediction is
the analytic FLOPs of each kind divided by that kind's speed, four numbers fitted to the whole grid. If work were done twice anywhere, or
something grew faster than its count, the points could not lie on it.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from mpo_lightning.data.batch import collate
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective
from step.flops import attention_flops, head_flops, language_flops, vision_flops
from step.sizes import config_of, synthetic_pairs
from step.variants import token_counts

KINDS = ("vision", "layers", "attention", "head")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 4, 7, 13], help="tiles of a pair, the thumbnail counted")
    parser.add_argument(
        "--responses", type=int, nargs="+", default=[256, 1024, 4096], help="response tokens of a pair, both answers"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_of("toy")
    forward = PairForward(InternVLForConditionalGeneration(config)).train()
    objective = MPOObjective()
    work, seconds, points = [], [], []
    for tiles in arguments.tiles:
        for responses in arguments.responses:
            pairs = synthetic_pairs(
                1, tiles, config.text_config.vocab_size, chosen=responses // 2, rejected=responses - responses // 2
            )
            batch, lengths = collate(pairs, 448), token_counts(pairs)
            times = []
            for _ in range(arguments.repeats + 1):
                begin = time.process_time()
                logps, _ = forward(batch)
                objective(logps, logps.detach(), 0.0).total.mean().backward()
                times.append(time.process_time() - begin)
                forward.zero_grad()
            scores = attention_flops(config, lengths)
            kinds = vision_flops(config, tiles), language_flops(config, lengths) - scores, scores, head_flops(config, responses)
            work.append([3 * kind / 1e9 for kind in kinds])
            seconds.append(statistics.median(times[1:]))
            points.append((tiles, responses))
            print(f"{tiles:>3} tiles {responses:>5} response tokens: {seconds[-1]:7.2f} s", file=sys.stderr, flush=True)
    matrix, measured = np.array(work), np.array(seconds)
    # Relative errors count alike, so each point is divided by its own time.
    speeds = np.linalg.lstsq(matrix / measured[:, None], np.ones(len(measured)), rcond=None)[0]
    predicted = matrix @ speeds
    print("tiles  response tokens    GFLOP    CPU s    predicted    off")
    for (tiles, responses), gflop, ours, theirs in zip(points, matrix.sum(axis=1), measured, predicted, strict=True):
        print(f"{tiles:>5}{responses:>17}{gflop:>9.0f}{ours:>9.2f}{theirs:>13.2f}{theirs / ours - 1:>7.0%}")
    print("speeds in GFLOP/s: " + ", ".join(f"{kind} {1 / speed:.0f}" for kind, speed in zip(KINDS, speeds, strict=True)))
    print(f"largest deviation {np.abs(predicted / measured - 1).max():.0%}")
    if arguments.json:
        rows = [
            {"tiles": t, "responses": r, "cpu_s": s, "predicted_s": p}
            for (t, r), s, p in zip(points, seconds, predicted.tolist(), strict=True)
        ]
        arguments.json.write_text(
            json.dumps({"points": rows, "gflops": dict(zip(KINDS, (1 / speeds).tolist(), strict=True))}, indent=1)
        )


if __name__ == "__main__":
    main()
