"""Rules for each source of questions: number of tiles, whether answers can be checked, kinds of prompt.

Source of the defaults in configs/prefs/mmpr.yaml: arXiv 2411.10442, section 3.2 and appendix: 6 tiles for general
questions, 12 for OCR, documents and charts; no correctness pairs from general questions and documents, whose short
answers no rule can check; DropoutNTP from all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.prefs.prompt_files import PromptFiles


@dataclass
class Source:
    """Rules for the data sets whose names match.

    Attributes:
        match: patterns of names, as in a shell ("chartqa*").
        tiles: most tiles of a question's images, thumbnails not counted; None is the engine's limit
            (--engine.max_tiles).
        correctness: whether answers can be checked, so that right responses are paired with wrong ones.
        dropout_ntp: whether to make DropoutNTP pairs.
        kinds: kinds of prompt, chosen at random.
    """

    match: list[str] = field(default_factory=lambda: ["*"])
    tiles: int | None = None
    correctness: bool = True
    dropout_ntp: bool = True
    kinds: list[str] = field(default_factory=lambda: ["plain"])

    def as_dict(self) -> dict[str, Any]:
        """Returns the rules as plain values."""
        return dict(vars(self))


def source_of(name: str, sources: Sequence[Source]) -> Source:
    """Returns the first source whose patterns match a data set's name.

    Raises:
        InputError: no source matches.
    """
    for source in sources:
        if any(fnmatch(name.lower(), pattern.lower()) for pattern in source.match):
            return source
    raise InputError(
        f"no source matches the data set '{name}'; add one to `sources`, for example with match: ['*'] at the end"
    )


def check_sources(sources: Sequence[Source], prompts: PromptFiles) -> None:
    """Raises InputError for a source that cannot be used."""
    if not sources:
        raise InputError("`sources` is empty; give at least one, for example {match: ['*']}")
    for source in sources:
        if (source.tiles is not None and source.tiles < 1) or not source.match or not source.kinds:
            raise InputError(
                f"the source {source.match} needs tiles of at least 1, and at least one pattern and one kind of prompt"
            )
        for kind in source.kinds:
            if kind not in prompts.kinds:
                raise InputError(
                    f"the source {source.match} has the kind of prompt '{kind}'; known are {', '.join(prompts.kinds)}"
                )
