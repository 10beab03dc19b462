"""Evaluates a benchmark during training: greedy responses to its first problems are scored and logged.

In a config:

    trainer:
      callbacks:
        - class_path: mpo_lightning.evals.callback.EvaluateBenchmark
          init_args: {benchmark: mathvista, data: MATHVISTA, limit: 100, every_n_steps: 200}

It logs eval/BENCHMARK/NAME for the headline, coverage and response length. responses.BENCHMARK.jsonl in the run folder
has every response.
"""

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.evals.benchmark import Mode, Score
from mpo_lightning.evals.generate import ProblemPrompts
from mpo_lightning.evals.metrics import BenchmarkMetric
from mpo_lightning.evals.registry import find_benchmark
from mpo_lightning.models.generation import Answer, encode_prompt, generate, pad_prompts


class EvaluateBenchmark(L.Callback):
    """Evaluates a benchmark every few steps of training.

    Args:
        benchmark: name or class path of a benchmark without a judge, such as mathvista or questions (your own).
        data: folder of its official files, or its file of problems.
        every_n_steps: global steps between evaluations; the start and the end of training are evaluated too.
        limit: number of problems, from the first.
        cot: ask for reasoning first.
        mode: "official" for the benchmark's own rules, "robust" for ours.
        max_new_tokens: most tokens of a response.
        batch_size: problems that a device answers at once.
        images: folder that image paths are relative to; default that of the data.

    Raises:
        InputError: the benchmark is unknown or needs a judge, or its files are missing.
    """

    def __init__(
        self,
        benchmark: str,
        data: str,
        every_n_steps: int = 500,
        limit: int = 100,
        cot: bool = False,
        mode: Mode = "robust",
        max_new_tokens: int = 512,
        batch_size: int = 8,
        images: str | None = None,
    ) -> None:
        if min(every_n_steps, limit, max_new_tokens, batch_size) < 1:
            raise InputError(
                "EvaluateBenchmark needs every_n_steps, limit, max_new_tokens and batch_size of at least 1"
            )
        self.benchmark = find_benchmark(benchmark)
        if self.benchmark.judge is not None:
            raise InputError(
                f"EvaluateBenchmark: {self.benchmark.title} needs a judge; score its responses after training with "
                "mpo eval run"
            )
        problems = self.benchmark.load(Path(data))[:limit]
        root = Path(images) if images else Path(data) if Path(data).is_dir() else Path(data).parent
        self.prompts = ProblemPrompts(self.benchmark, problems, root, cot)
        self.metric = BenchmarkMetric(problems, mode, self.benchmark)
        self.every_n_steps, self.max_new_tokens, self.batch_size = every_n_steps, max_new_tokens, batch_size
        self.mode: Mode = mode
        self._last = -1

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last = state_dict["last"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluates the benchmark, once for each step, also after a resume."""
        step = trainer.global_step
        if step == self._last or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._last = step
        self.metric.to(pl_module.device)
        self.metric.reset()
        was_training = pl_module.training
        pl_module.eval()
        lengths: list[int] = []
        try:
            with trainer.precision_plugin.forward_context():
                for numbers in self._slices(trainer.global_rank, trainer.world_size):
                    answers = self._answers(trainer, pl_module, numbers)
                    scores = [self._score(number, answer) for number, answer in zip(numbers, answers, strict=True)]
                    self.metric.update_scores(scores, numbers)
                    lengths += [answer.tokens for answer in answers if answer is not None]
                    self._write(trainer, step, numbers, answers, scores=scores)
        finally:
            pl_module.train(was_training)
        numbers_logged = {name: float(value) for name, value in self.metric.compute().items() if "/" not in name}
        if lengths:
            numbers_logged["tokens"] = sum(lengths) / len(lengths)
        logged = {f"eval/{self.benchmark.name}/{name}": value for name, value in numbers_logged.items()}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in logged.items()})
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=step)
            logger.save()
        told = ", ".join(f"{name} {value:.1f}" for name, value in numbers_logged.items())
        rank_zero_info(f"step {step}: {self.benchmark.title}, {len(self.prompts)} problems: {told}")

    def _slices(self, rank: int, world_size: int) -> list[list[int]]:
        """Returns this rank's problems in batches, as many on every rank; the metric drops the repeated ones."""
        total = len(self.prompts)
        share = -(-total // world_size)
        mine = [(rank + place * world_size) % total for place in range(share)]
        return [mine[start : start + self.batch_size] for start in range(0, share, self.batch_size)]

    def _answers(self, trainer: L.Trainer, pl_module: Any, numbers: list[int]) -> list[Answer | None]:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        answers: list[Answer | None] = [None] * len(numbers)
        encoded, places = [], []
        for place, number in enumerate(numbers):
            try:
                encoded.append(encode_prompt(datamodule.encoder, self.prompts[number]))
                places.append(place)
            except BadRecord as error:
                rank_zero_warn(f"{self.prompts.where(number)}: {error}; it counts as wrong")
        if not encoded and not pl_module.policy.sharded:
            return answers
        if not encoded:
            # With sharded weights every rank has to generate; this answer is not read.
            encoded = [encode_prompt(datamodule.encoder, Prompt("Hello"))]
        batch = pad_prompts(encoded).to(pl_module.device)
        given = generate(pl_module.policy, datamodule.processor, batch, self.max_new_tokens)
        for place, answer in zip(places, given[: len(places)], strict=True):
            answers[place] = answer
        return answers

    def _score(self, number: int, answer: Answer | None) -> Score:
        return self.benchmark.score(self.prompts.problems[number], answer.text if answer else "", self.mode)

    def _write(
        self, trainer: L.Trainer, step: int, numbers: list[int], answers: list[Answer | None], scores: list[Score]
    ) -> None:
        # The logger's folder, since trainer.log_dir is a broadcast.
        folder = Path((trainer.logger.log_dir if trainer.logger else None) or trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "" if trainer.world_size == 1 else f".{trainer.global_rank}"
        with (folder / f"responses.{self.benchmark.name}{suffix}.jsonl").open("a", encoding="utf-8") as file:
            for number, answer, score in zip(numbers, answers, scores, strict=True):
                name = self.prompts.problems[number].get(self.benchmark.id_field)
                row = {
                    "step": step,
                    self.benchmark.id_field: name,
                    "response": answer.text if answer else None,
                    "correct": score.verdict.correct,
                    "rule": score.verdict.rule,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
