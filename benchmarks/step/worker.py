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

from step.pairs import read_pairs
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
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    size, count = arguments.batch_size, arguments.steps + arguments.warmup
    pairs = read_pairs(arguments.model, arguments.data, size * count)
    batches = [pairs[size * number : size * (number + 1)] for number in range(count)]
    step = Step(
        arguments.variant,
        lambda: InternVLForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.float32, local_files_only=True),
    )
    memory = PeakMemory()
    before = memory.now()
    memory.start()
    result = timed(step, batches, arguments.warmup)
    memory.going = False
    print(json.dumps(result | {"extra_bytes": memory.peak - before}))


if __name__ == "__main__":
    main()
