"""The embedded engine: runs a checkpoint in this program, by Lightning's predict loop, on any devices and machines."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
from mpo_lightning.inference.engine import Work
from mpo_lightning.inference.predict import Dtype, PredictOptions, run_predict
from mpo_lightning.models.family import Processor
from mpo_lightning.models.loading import load_processor, model_fingerprint


@dataclass(frozen=True)
class EmbeddedEngine:
    """Engine that runs a checkpoint in this program.

    Attributes:
        model: checkpoint folder, in either layout.
        max_tiles: maximum tiles for a prompt's images, thumbnails not counted; a prompt's own limit replaces it.
        max_length: number of tokens from which a prompt is refused.
        template: name of the chat template; "auto" takes the one that the checkpoint names.
        batch_size: responses that a device generates at once.
        num_workers: loader processes per device.
        dtype: dtype of weights and arithmetic.
        trainer: options of Lightning's Trainer (accelerator, devices, num_nodes).
    """

    model: str
    max_tiles: int = 12
    max_length: int = 8192
    template: str = "auto"
    batch_size: int = 32
    num_workers: int = 2
    dtype: Dtype = "auto"
    trainer: dict[str, Any] | None = None

    @property
    def exact_seams(self) -> bool:
        return True

    def check_begun(self, with_picture: bool) -> None:
        """Accepts every started response; this engine can continue any of them."""

    @cached_property
    def processor(self) -> Processor:
        """The processor of the checkpoint."""
        return load_processor(self.model, self.template)

    def description(self) -> dict[str, Any]:
        return {
            "checkpoint": Path(self.model).resolve().name,
            "model": model_fingerprint(self.model),
            "tokenizer": tokenizer_fingerprint(self.processor.tokenizer),
            "template": self.processor.template.name,
            "max_tiles": self.max_tiles,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "dtype": self.dtype,
        }

    def answer(self, work: Work, output: Path) -> tuple[int, int]:
        encoder = self.processor.encoder(self.max_tiles, self.max_length, "set_aside")
        options = PredictOptions(work.max_new_tokens, self.batch_size, self.num_workers, self.dtype, work.sampling)
        settings = self.description() | {"prompts": work.asked}
        return run_predict(
            self.model, self.processor, work.prompts, output, settings, encoder, self.trainer or {}, options
        )
