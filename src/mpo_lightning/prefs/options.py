"""Options of making pairs, shared by the verbs of `mpo prefs`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mpo_lightning.answers.confidence import threshold
from mpo_lightning.errors import InputError
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.filters import FILTERS, check_filters


@dataclass(frozen=True)
class PairingRules:
    """How right responses are paired with wrong ones.

    Attributes:
        pairs_per_question: most pairs of a question.
        reuse: most pairs that one response stands in.
        difference: least share of words in which the two sides of a pair differ; closer ones count as the same.
        balance_length: choose pairs so that chosen and rejected sides have about the same number of tokens in total.
        confidence: least confidence of a verdict that is used; responses below it are used on neither side.
        filters: names of the quality filters in use.
    """

    pairs_per_question: int = 15
    reuse: int = 4
    difference: float = 0.02
    balance_length: bool = False
    confidence: float = threshold("announced")
    filters: tuple[str, ...] = tuple(FILTERS)

    def __post_init__(self) -> None:
        if min(self.pairs_per_question, self.reuse) < 1:
            raise InputError("--pairing.pairs_per_question and --pairing.reuse must be at least 1")
        if not 0 <= self.difference < 1 or not 0 <= self.confidence <= 1:
            raise InputError("--pairing.difference must be from 0 to below 1, and --pairing.confidence from 0 to 1")
        check_filters(self.filters)


@dataclass(frozen=True)
class VerifierOptions:
    """A verifier model that is asked about responses which the rules leave undecided; without `url` none is asked.

    Attributes:
        url: address of its OpenAI-compatible server, such as http://localhost:8000/v1; openai is OpenAI's own. The key
            is read from OPENAI_API_KEY.
        model: name of the model on the server.
        prompt: the prompt that the model was trained on: compass (CompassVerifier) or xverify (xVerify).
        at_once: number of concurrent requests.
    """

    url: str | None = None
    model: str = "opencompass/CompassVerifier-7B"
    prompt: Literal["compass", "xverify"] = "compass"
    at_once: int = 16

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise InputError("--verifier.at_once must be at least 1")


@dataclass(frozen=True)
class DropoutOptions:
    """How DropoutNTP writes the second half of a response.

    Attributes:
        ratio: share of a response's tokens that is kept: the paper's 0.5, its ablation's 0.25 and 0.75, or 0 for
            none.
        with_image: show the image all the same, as a control.
        max_new_tokens: most tokens of a second half.
        filters: names of the quality filters in use.
    """

    ratio: float = 0.5
    with_image: bool = False
    max_new_tokens: int = 2048
    filters: tuple[str, ...] = tuple(FILTERS)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise InputError(f"the ratio of a response that is kept is {self.ratio}; it must be at least 0 and below 1")
        if self.max_new_tokens < 1:
            raise InputError(f"--dropout.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        check_filters(self.filters)


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        samples: responses to each question whose answer can be checked.
        sampling: how responses are sampled.
        max_new_tokens: most tokens of a response.
        pairing: how responses are paired.
        verifier: a model that decides what the rules do not.
        dropout: how second halves are written.
        fingerprints: lists of benchmarks' problems that must not be trained on.
        strict: stop at the first unusable question instead of skipping it.
        shards: whether to write shards.
        validation: share of pairs held out in the shards.
        shard_megabytes: largest size of a shard in MB.
        workers: number of processes.
    """

    samples: int = 32
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 4096
    pairing: PairingRules = field(default_factory=PairingRules)
    verifier: VerifierOptions = field(default_factory=VerifierOptions)
    dropout: DropoutOptions = field(default_factory=DropoutOptions)
    fingerprints: tuple[Path, ...] = ()
    strict: bool = True
    shards: bool = True
    validation: float = 0.0
    shard_megabytes: float = 256.0
    workers: int = 1

    def __post_init__(self) -> None:
        if min(self.samples, self.max_new_tokens) < 1 or not 0 <= self.validation < 1 or self.shard_megabytes <= 0:
            raise InputError(
                "--samples and --max_new_tokens must be at least 1, --validation from 0 to below 1, --shard_megabytes "
                "above 0"
            )
