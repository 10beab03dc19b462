"""The paper's eight benchmarks: problems, prompts, scores, tables, judges, runs and comparisons. See docs/evals.md."""

from mpo_lightning.evals.benchmark import Benchmark, Row, Score, Table, TableRow
from mpo_lightning.evals.metrics import (
    CRPE,
    POPE,
    BenchmarkMetric,
    LLaVABench,
    M3CoT,
    MathVision,
    MathVista,
    MMHalBench,
    MMVet,
)

__all__ = [
    "CRPE",
    "POPE",
    "Benchmark",
    "BenchmarkMetric",
    "LLaVABench",
    "M3CoT",
    "MMHalBench",
    "MMVet",
    "MathVision",
    "MathVista",
    "Row",
    "Score",
    "Table",
    "TableRow",
]
