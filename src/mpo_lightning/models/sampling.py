"""Options of sampling."""

from dataclasses import dataclass, replace

from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled; the defaults are those of the paper's data pipeline.

    Attributes:
        temperature: sampling temperature, above 0; it divides the logits.
        top_k: number of most likely tokens that may be sampled; 0 is all of them.
        top_p: probability that the most likely tokens together reach; less likely ones are not sampled.
        seed: seed of all sampling.
    """

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                "sampling needs a temperature above 0, a top_k of at least 0 and a top_p above 0 and at most 1, got "
                f"{self.temperature}, {self.top_k} "
                f"and {self.top_p}"
            )

    def of_stage(self, stage: int) -> "Sampling":
        """Returns the options with a seed for this stage of a pipeline, so that stages draw different numbers."""
        return replace(self, seed=self.seed + 1_000_003 * stage)
