"""Generates a response to every prompt on any number of devices, into a file from which a killed run resumes.

Prompts are processed in slices whose boundaries depend only on the batch size. Neither the number of devices nor a kill
changes which prompts share a forward pass, so sampled responses are the same to the bit.
"""

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from filelock import Timeout
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from mpo_lightning.data.samplers import Slices
from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
from mpo_lightning.errors import InputError
from mpo_lightning.inference.answer_file import begin, finish, finished_lines, part_line, parts_lock
from mpo_lightning.inference.engine import Work
from mpo_lightning.inference.options import Dtype, EngineOptions, TrainerOptions
from mpo_lightning.inference.prompt_slices import Group, PromptSlices, Slice
from mpo_lightning.models.draws import Draws, forbidden_ids
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.generation import (
    Answer,
    generate,
    read_prompts,
)
from mpo_lightning.models.loading import load_model, load_processor, model_fingerprint, read_config
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.rows.pair_rope import rope_limit
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.runs.lost_ranks import run_whole
from mpo_lightning.runs.signals import ignore_signals


@dataclass(frozen=True)
class PredictOptions:
    """Options of the generation.

    Attributes:
        max_new_tokens: maximum number of tokens per response.
        batch_size: responses that a device generates at once; a prompt with more of them is still encoded only once.
        num_workers: loader processes per device.
        dtype: dtype of weights and arithmetic; "auto" is bfloat16 on a GPU and float32 on a CPU.
        sampling: sampling options; None is greedy.
    """

    max_new_tokens: int = 1024
    batch_size: int = 8
    num_workers: int = 2
    dtype: Dtype = "auto"
    sampling: Sampling | None = None

    def on(self, device: torch.device) -> "PredictOptions":
        """Returns the options with "auto" replaced by the dtype for this device."""
        chosen: Any = "float32" if device.type == "cpu" else "bfloat16"
        return replace(self, dtype=chosen) if self.dtype == "auto" else self


class Predictor(L.LightningModule):
    """Writes one line per response as soon as its slice is done.

    Args:
        folder: checkpoint folder.
        processor: processor of the checkpoint.
        slices: dataset of encoded prompts.
        parts: folder of finished lines.
        options: options of the generation, with a dtype other than "auto".
    """

    def __init__(
        self, folder: str, processor: Processor, slices: PromptSlices, parts: Path, options: PredictOptions
    ) -> None:
        super().__init__()
        self.folder, self.processor, self.slices, self.parts, self.options = folder, processor, slices, parts, options
        self.model: Any = None

    def configure_model(self) -> None:
        if self.model is None:
            self.model = freeze(load_model(self.folder, getattr(torch, self.options.dtype)))
            vocabulary = self.model.config.get_text_config().vocab_size
            self.forbidden = forbidden_ids(self.processor.tokenizer, self.processor.template, vocabulary)

    def predict_dataloader(self) -> DataLoader[Slice]:
        done = np.array(list(finished_lines(self.parts)), dtype=np.int64)
        numbers, size = np.arange(len(self.slices.prompts)), self.slices.size(self.options.batch_size)
        # Complete slices only, so that the same prompts share a forward pass after a kill.
        unfinished = np.unique(np.setdiff1d(numbers, done) // size)
        to_do = numbers[np.isin(numbers // size, unfinished)]
        # Lightning has a barrier after this method, so every rank reads the files before any of them writes.
        run = self.trainer.strategy.broadcast(len(list(self.parts.glob("part-*.jsonl"))))
        self._file = (self.parts / f"part-{run}-{self.global_rank}.jsonl").open("ab", buffering=0)
        return DataLoader(
            self.slices,
            batch_size=None,
            sampler=Slices(to_do, size, self.global_rank, self.trainer.world_size),
            num_workers=self.options.num_workers,
            worker_init_fn=ignore_signals,
        )

    def predict_step(self, piece: Slice, batch_idx: int) -> None:
        rows: list[tuple[int, dict[str, Any]]] = [
            (number, {"response": None, "error": reason}) for number, reason in piece.refused
        ]
        for group in piece.groups:
            rows += [
                (number, {"response": answer.text, "response_tokens": answer.tokens, "finished": answer.finished})
                for number, answer in zip(group.numbers, self._answers(group), strict=True)
            ]
        self._file.write(b"".join(part_line(number, row) for number, row in rows))

    def _answers(self, group: Group) -> list[Answer]:
        sampling, tokens = self.options.sampling, self.options.max_new_tokens
        if len(group.numbers) == len(group.batch.input_ids):
            draws = Draws(sampling, group.numbers, self.forbidden) if sampling else None
            return generate(self.model, self.processor, group.batch, tokens, draws=draws)
        answers: list[Answer] = []
        read = read_prompts(self.model, group.batch)
        for start in range(0, len(group.numbers), self.options.batch_size):
            part = slice(start, start + self.options.batch_size)
            draws = Draws(sampling, group.numbers[part], self.forbidden) if sampling else None
            answers += generate(
                self.model, self.processor, group.batch, tokens, draws=draws, rows=group.rows[part], read=read
            )
        return answers

    def on_predict_epoch_end(self) -> None:
        self._file.close()


def run_predict(
    model: str,
    processor: Processor,
    work: Work,
    output: Path,
    *,
    settings: dict[str, Any],
    engine: EngineOptions,
    trainer: TrainerOptions,
) -> tuple[int, int]:
    """Answers the prompts that have no answer yet, and writes the output.

    Args:
        model: checkpoint folder.
        processor: the model's processor.
        work: prompts, and how they are answered.
        output: the file to write.
        settings: whatever else decides an answer; a killed run resumes only with the same.
        engine: limits, batch size and dtype.
        trainer: the devices.

    Returns:
        The number of prompts, and the number of them that could not be answered.

    Raises:
        InputError: the output exists, or an unfinished run has other settings.
    """
    encoder = processor.encoder(engine.max_tiles, engine.max_length, "set_aside", engine.pixels)
    options = PredictOptions(
        work.max_new_tokens, engine.batch_size, engine.num_workers, engine.dtype, sampling=work.sampling
    )
    prompts = work.prompts
    try:
        lightning = L.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, **trainer.as_dict())
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(" ".join(str(error).split())) from None
    options = options.on(lightning.strategy.root_device)
    # The batch size affects the rounding of the sampling probabilities.
    drawn = asdict(options.sampling) | {"batch_size": options.batch_size} if options.sampling else None
    parts = begin(
        output,
        settings
        | {"prompts": work.asked, "max_new_tokens": options.max_new_tokens, "dtype": options.dtype, "sampling": drawn},
    )
    limit = rope_limit(read_config(model).get_text_config())
    slices = PromptSlices(prompts, encoder, limit, options.max_new_tokens)
    predictor = Predictor(model, processor, slices, parts, options=options)
    lock = parts_lock(output)
    try:
        # Rank 0 takes the lock for all ranks.
        with run_whole(lightning), lock if lightning.is_global_zero else nullcontext():
            lightning.predict(predictor, return_predictions=False)
            lightning.strategy.barrier()
            counts = finish(parts, prompts, output) if lightning.is_global_zero else (0, 0)
            lightning.strategy.barrier()
    except Timeout:
        raise InputError(f"{output}: another run is writing it; wait for its end, or choose another output") from None
    if lightning.is_global_zero:
        Path(lock.lock_file).unlink(missing_ok=True)
    return counts


def answer_here(
    model: str,
    work: Work,
    output: Path,
    *,
    settings: dict[str, Any],
    engine: EngineOptions,
    trainer: TrainerOptions,
) -> tuple[int, int]:
    """Answers prompts with the model of a checkpoint folder; see `run_predict`.

    The batch size is no part of what decides a greedy response, so that a killed run may resume with another one.
    """
    processor = load_processor(model, engine.template, engine.system_message)
    known = _described(model, processor, engine) | settings
    return run_predict(model, processor, work, output, settings=known, engine=engine, trainer=trainer)


def described(model: str, engine: EngineOptions) -> dict[str, Any]:
    """What decides the greedy responses of a checkpoint folder, apart from the prompts."""
    return _described(model, load_processor(model, engine.template, engine.system_message), engine)


def _described(model: str, processor: Processor, engine: EngineOptions) -> dict[str, Any]:
    return {
        "model": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(processor.tokenizer),
        **processor.template.identity,
        **engine.of_pictures(),
        "max_length": engine.max_length,
    }
