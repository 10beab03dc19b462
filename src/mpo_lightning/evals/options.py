"""Options of judges, shared by the verbs of `mpo eval`."""

from dataclasses import dataclass

from mpo_lightning.errors import InputError


@dataclass(frozen=True)
class JudgeOptions:
    """The language model that grades responses, or extracts their short answers for official MathVista.

    Attributes:
        url: address of the judge's OpenAI-compatible server, such as http://localhost:8000/v1; openai is OpenAI's own.
            The key is read from OPENAI_API_KEY.
        model: name of the judge; default the one that published scores used.
        replay: file of the judge's replies, to which new ones are added; default OUTPUT.judge.jsonl.
        runs: number of times that the judge grades each response.
        at_once: number of concurrent requests.
    """

    url: str | None = None
    model: str | None = None
    replay: str | None = None
    runs: int = 1
    at_once: int = 8

    def __post_init__(self) -> None:
        if min(self.runs, self.at_once) < 1:
            raise InputError("--judge.runs and --judge.at_once must be at least 1")

    @property
    def asked(self) -> bool:
        """Whether a judge, or a file of its replies, is named."""
        return self.url is not None or self.replay is not None
