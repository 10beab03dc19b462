"""Benchmarks by name."""

from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark
from mpo_lightning.evals.benchmarks.crpe import CRPE
from mpo_lightning.evals.benchmarks.equivalence import EQUIVALENCE
from mpo_lightning.evals.benchmarks.llava_bench import LLAVA_BENCH
from mpo_lightning.evals.benchmarks.m3cot import M3COT
from mpo_lightning.evals.benchmarks.mathvision import MATHVISION
from mpo_lightning.evals.benchmarks.mathvista import MATHVISTA
from mpo_lightning.evals.benchmarks.mmhal import MMHAL
from mpo_lightning.evals.benchmarks.mmvet import MMVET
from mpo_lightning.evals.benchmarks.pope import POPE
from mpo_lightning.evals.benchmarks.questions import QUESTIONS

BENCHMARKS = {
    one.name: one
    for one in (MATHVISTA, MATHVISION, M3COT, POPE, CRPE, MMVET, LLAVA_BENCH, MMHAL, EQUIVALENCE, QUESTIONS)
}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise InputError(f"--benchmark {name}: there is no such benchmark; choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
