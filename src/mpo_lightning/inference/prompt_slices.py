"""Prompts cut into slices that are answered at once; the borders depend on the batch size alone."""

from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import Dataset

from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.prompts import Prompts, Repeated
from mpo_lightning.errors import BadRecord
from mpo_lightning.models.generation import PromptBatch, encode_prompt, pad_prompts, split_by_rope


@dataclass(frozen=True)
class Group:
    """Prompts that share a forward pass, each of them once.

    Attributes:
        numbers: number of each response.
        rows: row of each response's prompt in the batch.
        batch: the encoded prompts.
    """

    numbers: tuple[int, ...]
    rows: tuple[int, ...]
    batch: PromptBatch


@dataclass(frozen=True)
class Slice:
    """Part of the prompts.

    Attributes:
        groups: prompts that can be used.
        refused: number and error message of each prompt that cannot be used.
    """

    groups: tuple[Group, ...]
    refused: tuple[tuple[int, str], ...]

    def to(self, *args: Any, **kwargs: Any) -> "Slice":
        """Moves the batches to a device; Lightning calls it."""
        return replace(
            self, groups=tuple(replace(group, batch=group.batch.to(*args, **kwargs)) for group in self.groups)
        )


class PromptSlices(Dataset[Slice]):
    """Dataset that maps the numbers of responses to an encoded slice.

    Args:
        prompts: prompts to answer.
        encoder: encoder with the limits on tiles and length.
        limit: token limit of the language model's rope; see `rope_limit`.
        max_new_tokens: maximum number of tokens per response.
    """

    def __init__(self, prompts: Prompts, encoder: PairEncoder, limit: int | None, max_new_tokens: int) -> None:
        self.prompts, self.encoder, self.limit, self.max_new_tokens = prompts, encoder, limit, max_new_tokens

    @property
    def samples(self) -> int:
        """Number of responses per prompt."""
        return self.prompts.samples if isinstance(self.prompts, Repeated) else 1

    def size(self, batch_size: int) -> int:
        """Returns the number of responses in a slice, which holds all responses of its prompts."""
        return self.samples * max(1, batch_size // self.samples)

    def __getitem__(self, numbers: list[int]) -> Slice:
        samples = self.samples
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
        for places in split_by_rope([len(prompt.ids) for prompt in encoded], self.limit, self.max_new_tokens):
            rows = tuple(row for row, place in enumerate(places) for _ in usable[place])
            numbers_of = tuple(number for place in places for number in usable[place])
            groups.append(Group(numbers_of, rows, pad_prompts([encoded[place] for place in places])))
        return Slice(tuple(groups), tuple(refused))
