"""One variant in a process of its own, so that its peak memory is its own; prints one line of JSON."""

import argparse
import json
import os
import threading
import time
from pathlib import Path

import torch
from transformers import InternVLForConditionalGeneration
from transformers.utils import logging

from step.pairs import KINDS, pairs_of
from step.variants import VARIANTS, Step, timed


class PeakMemory(threading.Thread):
    """Highest resident set of this process, looked at every ten milliseconds, as the peer's script does."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.going = 0, True

    @staticmethod
    def now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def run(self) -> None:
        while self.going:
            self.peak = max(self.peak, self.now())
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    size, count = arguments.batch_size, arguments.steps + arguments.warmup
    config, pairs = pairs_of(arguments.assets, arguments.kind, size * count)
    batches = [pairs[size * number : size * (number + 1)] for number in range(count)]

    def load() -> InternVLForConditionalGeneration:
        if arguments.assets:
            return InternVLForConditionalGeneration.from_pretrained(
                arguments.assets / "model", dtype=torch.float32, local_files_only=True
            )
        torch.manual_seed(0)
        return InternVLForConditionalGeneration(config)

    step = Step(arguments.variant, load)
    memory = PeakMemory()
    before = memory.now()
    memory.start()
    result = timed(step, batches, arguments.warmup)
    memory.going = False
    print(json.dumps(result | {"extra_bytes": memory.peak - before}))


if __name__ == "__main__":
    main()
