"""`mpo predict`: a model's answer to every prompt, on any number of devices, in a file that a killed run goes on with.

OUT.jsonl             a line a prompt, in the order of the prompts: its own fields, `response`, `response_tokens`, `finished`
OUT.jsonl.parts/      meta.json and finished lines of a run that has not ended; gone when OUT.jsonl is there
"""

import hashlib
import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Dataset

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.prompts import Prompts, Repeated
from mpo_lightning.data.slices import Slices
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.generation import PromptBatch, encode_prompt, generate, pad_prompts, split_by_rope
from mpo_lightning.models.loading import load_model, read_config
from mpo_lightning.models.pair_rope import rope_limit
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.sampling import Draws, Sampling


@dataclass(frozen=True)
class Group:
    """Prompts that share a forward pass, each of them once.

    Attributes:
        numbers: of the answers.
        rows: the prompt of each answer.
        batch: the prompts.
    """

    numbers: tuple[int, ...]
    rows: tuple[int, ...]
    batch: PromptBatch


@dataclass(frozen=True)
class Slice:
    """Some prompts, those that can be used in groups, and the reason for each that cannot."""

    groups: tuple[Group, ...]
    refused: tuple[tuple[int, str], ...]

    def to(self, *args: Any, **kwargs: Any) -> "Slice":
        """On a device; Lightning calls it."""
        return replace(self, groups=tuple(replace(group, batch=group.batch.to(*args, **kwargs)) for group in self.groups))


class PromptSlices(Dataset[Slice]):
    """Prompt numbers in, slices out.

    Args:
        prompts: to be answered.
        encoder: with the limits on tiles and length.
        limit: of the language model's rope, see `rope_limit`.
        max_new_tokens: most tokens of an answer.
    """

    def __init__(self, prompts: Prompts, encoder: PairEncoder, limit: int | None, max_new_tokens: int) -> None:
        self.prompts, self.encoder, self.limit, self.max_new_tokens = prompts, encoder, limit, max_new_tokens

    def __getitem__(self, numbers: list[int]) -> Slice:
        samples = self.prompts.samples if isinstance(self.prompts, Repeated) else 1
        of_prompt: dict[int, list[int]] = {}
        for number in numbers:
            of_prompt.setdefault(number // samples, []).append(number)
        encoded, usable, refused = [], [], []
        for answers in of_prompt.values():
            try:
                encoded.append(encode_prompt(self.encoder, self.prompts[answers[0]]))
                usable.append(answers)
            except BadRecord as error:
                refused += [(number, f"{self.prompts.where(number)}: {error}") for number in answers]
        groups = []
        for places in split_by_rope([len(ids) for ids, _ in encoded], self.limit, self.max_new_tokens):
            rows = tuple(row for row, place in enumerate(places) for _ in usable[place])
            numbers_of = tuple(number for place in places for number in usable[place])
            groups.append(Group(numbers_of, rows, pad_prompts([encoded[place] for place in places])))
        return Slice(tuple(groups), tuple(refused))


@dataclass(frozen=True)
class PredictOptions:
    """How to answer.

    Attributes:
        max_new_tokens: most tokens of an answer.
        batch_size: prompts that a device answers at once.
        num_workers: loader processes a device.
        dtype: of weights and arithmetic; "auto" is bfloat16 on a GPU and float32 on a CPU.
        sampling: how answers are drawn; None is greedy.
    """

    max_new_tokens: int = 1024
    batch_size: int = 8
    num_workers: int = 2
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    sampling: Sampling | None = None

    def on(self, device: torch.device) -> "PredictOptions":
        """With the dtype that auto means on a device."""
        chosen: Any = "float32" if device.type == "cpu" else "bfloat16"
        return replace(self, dtype=chosen) if self.dtype == "auto" else self


class Predictor(L.LightningModule):
    """Writes a line a prompt as soon as it is answered.

    Args:
        folder: the checkpoint.
        processor: of the checkpoint.
        slices: of the prompts.
        parts: the folder of finished lines.
        options: with a dtype.
    """

    def __init__(self, folder: str, processor: Processor, slices: PromptSlices, parts: Path, options: PredictOptions) -> None:
        super().__init__()
        self.folder, self.processor, self.slices, self.parts, self.options = folder, processor, slices, parts, options
        self.model: Any = None

    def configure_model(self) -> None:
        if self.model is None:
            self.model = freeze(load_model(self.folder, getattr(torch, self.options.dtype)))

    def predict_dataloader(self) -> DataLoader[Slice]:
        done = np.array(list(finished_lines(self.parts)), dtype=np.int64)
        to_do = np.setdiff1d(np.arange(len(self.slices.prompts)), done)
        # Lightning's barrier behind this method: every rank has looked before any of them writes.
        run = self.trainer.strategy.broadcast(len(list(self.parts.glob("part-*.jsonl"))))
        self._file = (self.parts / f"part-{run}-{self.global_rank}.jsonl").open("ab", buffering=0)
        return DataLoader(
            self.slices,
            batch_size=None,
            sampler=Slices(to_do, self.options.batch_size, self.global_rank, self.trainer.world_size),
            num_workers=self.options.num_workers,
        )

    def predict_step(self, piece: Slice, batch_idx: int) -> None:
        rows: list[tuple[int, dict[str, Any]]] = [(number, {"response": None, "error": reason}) for number, reason in piece.refused]
        for group in piece.groups:
            numbers = group.numbers
            draws = Draws(self.options.sampling, numbers) if self.options.sampling else None
            repeated = group.rows if len(numbers) > len(group.batch.input_ids) else None
            answers = generate(self.model, self.processor, group.batch, self.options.max_new_tokens, draws=draws, rows=repeated)
            rows += [
                (number, {"response": answer.text, "response_tokens": answer.tokens, "finished": answer.finished})
                for number, answer in zip(numbers, answers, strict=True)
            ]
        self._file.write(b"".join(json.dumps([number, row], ensure_ascii=False).encode() + b"\n" for number, row in rows))

    def on_predict_epoch_end(self) -> None:
        self._file.close()


def finished_lines(parts: Path) -> dict[int, tuple[Path, int]]:
    """Where each answer of earlier runs lies, by prompt number; a line that a kill cut off does not count."""
    found: dict[int, tuple[Path, int]] = {}
    for path in sorted(parts.glob("part-*.jsonl")):
        with path.open("rb") as file:
            place = 0
            for line in file:
                if line.endswith(b"\n"):
                    found[json.loads(line)[0]] = path, place
                place += len(line)
    return found


def run_predict(
    model: str, processor: Processor, prompts: Prompts, output: Path, settings: dict[str, Any], encoder: PairEncoder,
    trainer_options: dict[str, Any], options: PredictOptions,
) -> tuple[int, int]:  # fmt: skip
    """Answers what is not answered yet and writes the output. Returns the number of prompts, and how many of them could not be used.

    Args:
        model: checkpoint folder.
        processor: of the checkpoint.
        prompts: to be answered.
        output: the file.
        settings: whatever else decides an answer; a run that was killed goes on only with the same.
        encoder: with the limits on tiles and length.
        trainer_options: of Lightning's Trainer.
        options: how to answer.

    Raises:
        InputError: the output exists, or was begun with other settings.
    """
    parts = output.with_name(f"{output.name}.parts")
    try:
        trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, **trainer_options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(" ".join(str(error).split())) from None
    if output.exists():
        raise InputError(f"{output} exists already; choose another output, or delete it")
    options = options.on(trainer.strategy.root_device)
    drawn = asdict(options.sampling) if options.sampling else None
    _begin(parts, settings | {"max_new_tokens": options.max_new_tokens, "dtype": options.dtype, "sampling": drawn})
    limit = rope_limit(read_config(model).text_config)
    slices = PromptSlices(prompts, encoder, limit, options.max_new_tokens)
    predictor = Predictor(model, processor, slices, parts, options)
    lock = FileLock(parts.with_name(f"{parts.name}.lock"), timeout=0)
    try:
        # Of the first rank, for all.
        with lock if trainer.is_global_zero else nullcontext():
            trainer.predict(predictor, return_predictions=False)
            trainer.strategy.barrier()
            counts = _finish(parts, prompts, output) if trainer.is_global_zero else (0, 0)
            trainer.strategy.barrier()
    except Timeout:
        raise InputError(f"{output}: another run is writing it; wait for its end, or choose another output") from None
    if trainer.is_global_zero:
        Path(lock.lock_file).unlink(missing_ok=True)
    return counts


def _begin(parts: Path, settings: dict[str, Any]) -> None:
    meta = parts / "meta.json"
    if meta.is_file():
        earlier = json.loads(meta.read_text(encoding="utf-8"))
        different = sorted(name for name in settings | earlier if settings.get(name) != earlier.get(name))
        if different:
            raise InputError(
                f"{parts}: an unfinished run was made with {different[0]} {earlier.get(different[0])!s:.40} instead of "
                f"{settings.get(different[0])!s:.40}; finish it with the same, or delete the folder"
            )
        return
    parts.mkdir(parents=True, exist_ok=True)
    partial = parts / f"meta.json.{os.getpid()}"
    partial.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    partial.rename(meta)


def _finish(parts: Path, prompts: Prompts, output: Path) -> tuple[int, int]:
    places, refused = finished_lines(parts), 0
    if len(places) < len(prompts):
        raise InputError(
            f"{parts}: {len(prompts) - len(places):,} of {len(prompts):,} answers are not there; run the same command again (with several machines, "
            "the output has to lie on a file system that all of them share)"
        )
    partial = output.with_name(f"{output.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        for number in range(len(prompts)):
            path, place = places[number]
            with path.open("rb") as lines:
                lines.seek(place)
                _, row = json.loads(lines.readline())
            refused += "error" in row
            fields = prompts.fields(number) | {"where": prompts.where(number)} if "error" in row else prompts[number].fields
            file.write(json.dumps(fields | row, ensure_ascii=False) + "\n")
    partial.rename(output)
    shutil.rmtree(parts)
    return len(prompts), refused


def file_digest(path: Path) -> str:
    """Names a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
