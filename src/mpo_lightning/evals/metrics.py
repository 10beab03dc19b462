"""The benchmarks as torchmetrics: update with responses, compute a table.

The state has a line for each response (the numbers of its problem and sample, the values of its score), gathered over
processes. A distributed sampler repeats problems to fill its last batch; the two numbers identify repeats, which are
dropped. So results do not depend on the number of processes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mpo_lightning.evals.benchmark import Benchmark, Mode, Row, Score, Table
from mpo_lightning.evals.registry import all_benchmarks, find_benchmark


class BenchmarkMetric(Metric):
    """A metric that computes a benchmark's table over responses.

    Args:
        problems: all problems, the same in every process.
        mode: "official" for the benchmark's own rules, "robust" for ours.
        benchmark: a benchmark or its name; subclasses set it.

    Example:
        >>> metric = M3CoT([{"id": "q", "choices": ["red", "blue"], "answer": "B"}])
        >>> metric.update(["The sky is blue, so the answer is (B)."], ["q"])
        >>> float(metric.compute()["accuracy"])
        100.0
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    numbers: list[Tensor]
    samples: list[Tensor]
    values: list[Tensor]
    undecided: list[Tensor]
    benchmark: Benchmark[Any]

    def __init__(
        self,
        problems: Sequence[Row],
        mode: Mode = "robust",
        benchmark: Benchmark[Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.benchmark = find_benchmark(benchmark) if isinstance(benchmark, str) else benchmark or self.benchmark
        self.problems, self.mode = list(problems), mode
        self.places = {str(problem[self.benchmark.id_field]): place for place, problem in enumerate(problems)}
        for name in ("numbers", "samples", "values", "undecided"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        responses: Sequence[str],
        ids: Sequence[str | int],
        samples: Sequence[int] | None = None,
        judged: Sequence[Row] | None = None,
    ) -> None:
        """Scores responses.

        Args:
            responses: a model's responses.
            ids: ids of their problems.
            samples: number of each response among those to its problem; default 0.
            judged: rows with the judge's replies, for judged benchmarks.
        """
        places = [self.places[str(name)] for name in ids]
        rows = [self.problems[place] | (judged[number] if judged else {}) for number, place in enumerate(places)]
        self.update_scores(
            [self.benchmark.score(row, response, self.mode) for row, response in zip(rows, responses, strict=True)],
            places,
            samples,
        )

    def update_scores(
        self, scores: Sequence[Score], places: Sequence[int], samples: Sequence[int] | None = None
    ) -> None:
        """Adds scores of responses.

        Args:
            scores: scores of the responses.
            places: numbers of their problems.
            samples: number of each response among those to its problem; default 0.
        """
        if not scores:
            return
        # As torchmetrics' wrapper of `update` does: an earlier result is out of date.
        self._update_count, self._computed = max(1, self._update_count), None
        self.numbers.append(torch.tensor(places, device=self.device))
        self.samples.append(
            torch.tensor(list(samples) if samples is not None else [0] * len(scores), device=self.device)
        )
        self.values.append(torch.tensor([score.values for score in scores], dtype=torch.float64, device=self.device))
        self.undecided.append(torch.tensor([score.verdict.correct is None for score in scores], device=self.device))

    def table(self) -> Table:
        """Makes the benchmark's table of all responses so far; repeated ones count once."""
        rows, values, _ = self._gathered()
        return self.benchmark.table(rows, values)

    def compute(self) -> dict[str, Tensor]:
        """Returns the table's numbers by name, "group/name", and `coverage`, the decided responses in percent."""
        rows, values, undecided = self._gathered()
        numbers = self.benchmark.table(rows, values).flat()
        if self.benchmark.judge is None:
            numbers["coverage"] = 100 * (1 - sum(undecided) / len(undecided)) if undecided else 0.0
        return {name: torch.tensor(number) for name, number in numbers.items()}

    def _gathered(self) -> tuple[list[Row], list[list[float]], list[bool]]:
        if not _size(self.numbers):
            return [], [], []
        numbers, samples, values, undecided = (
            torch.cat([*found]) if isinstance(found, list) else found
            for found in (self.numbers, self.samples, self.values, self.undecided)
        )
        first: dict[tuple[int, int], int] = {}
        for place, key in enumerate(zip(numbers.tolist(), samples.tolist(), strict=True)):
            first.setdefault(key, place)
        order = [first[key] for key in sorted(first)]
        rows = [self.problems[number] for number in numbers[order].tolist()]
        return rows, values[order].tolist(), undecided[order].tolist()


def _size(state: list[Tensor] | Tensor) -> int:
    return len(state)


class MathVista(BenchmarkMetric):
    """Accuracy on MathVista's problems."""

    benchmark = all_benchmarks()["mathvista"]


class MathVision(BenchmarkMetric):
    """Accuracy on MATH-Vision's problems."""

    benchmark = all_benchmarks()["mathvision"]


class M3CoT(BenchmarkMetric):
    """Accuracy on M3CoT's problems."""

    benchmark = all_benchmarks()["m3cot"]


class POPE(BenchmarkMetric):
    """F1 of POPE's yes-or-no questions."""

    benchmark = all_benchmarks()["pope"]


class CRPE(BenchmarkMetric):
    """Accuracy on CRPE's questions with all rotations right."""

    benchmark = all_benchmarks()["crpe"]


class MMVet(BenchmarkMetric):
    """Judge's points on MM-Vet's questions."""

    benchmark = all_benchmarks()["mmvet"]


class LLaVABench(BenchmarkMetric):
    """Judge's points on LLaVA-Bench's questions, relative to the reference answers."""

    benchmark = all_benchmarks()["llava_bench"]


class MMHalBench(BenchmarkMetric):
    """Judge's ratings on MMHal-Bench's questions, and the hallucination rate."""

    benchmark = all_benchmarks()["mmhal"]
