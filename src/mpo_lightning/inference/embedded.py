"""The embedded engine: runs a checkpoint in this program, by Lightning's predict loop, on any devices and machines."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
from mpo_lightning.inference.engine import Work
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.inference.predict import run_predict
from mpo_lightning.models.loading import load_processor, model_fingerprint
from mpo_lightning.models.processor import Processor


@dataclass(frozen=True)
class EmbeddedEngine:
    """Engine that runs a checkpoint in this program.

    Attributes:
        model: checkpoint folder, in either layout.
        options: limits, template, batch size and dtype.
        trainer: the devices.
    """

    model: str
    options: EngineOptions = field(default_factory=EngineOptions)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)

    @property
    def max_tiles(self) -> int:
        return self.options.max_tiles

    @property
    def exact_seams(self) -> bool:
        return True

    def check_begun(self, with_picture: bool) -> None:
        """Accepts every started response; this engine can continue any of them."""

    @cached_property
    def processor(self) -> Processor:
        """The processor of the checkpoint."""
        return load_processor(self.model, self.options.template, self.options.system_message)

    def description(self) -> dict[str, Any]:
        return {
            "checkpoint": Path(self.model).resolve().name,
            "model": model_fingerprint(self.model),
            "tokenizer": tokenizer_fingerprint(self.processor.tokenizer),
            **self.processor.template.identity,
            **self.options.of_pictures(),
            "max_length": self.options.max_length,
            "batch_size": self.options.batch_size,
            "dtype": self.options.dtype,
        }

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        settings = self.description()
        return run_predict(
            self.model, self.processor, work, output, settings=settings, engine=self.options, trainer=self.trainer
        )
