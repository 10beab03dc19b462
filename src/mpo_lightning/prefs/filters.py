"""Quality filters: named rules that keep a response out of both sides of pairs, each with a count in the report.

A verdict judges only the answer. A right answer may follow ten repeated paragraphs, be cut off in mid-sentence, or be
in another language than the question. Training would learn that too.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mpo_lightning.data.records import IMAGE_MARK, RESERVED_MARKS
from mpo_lightning.data.words import repeated_share
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.prompt_files import han, language_of

Row = dict[str, Any]
STRUCTURE = (
    *RESERVED_MARKS,
    "<s>",
    "</s>",
    "<|endofprompt|>",
    "<pad>",
    "<unk>",
    "<|plugin|>",
    "<|interpreter|>",
    "<|action_start|>",
    "<|action_end|>",
)
"""Marks that no text may hold, since they would forge a prompt's structure."""
MARKS = (*STRUCTURE, IMAGE_MARK, "<box>", "</box>", "<ref>", "</ref>", "<quad>", "</quad>")
"""Special tokens of InternVL2's checkpoints; the embedded engine never samples them, but a server may."""
RUN_ON = re.compile(r"\n\s*(?:\*\*)?(?:Question|Hint|Problem|Choices|User|Human|问题|提示)\s*[:：]")
OTHER_SCRIPTS = re.compile(r"[\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\uac00-\ud7af]")
"""Letters of Cyrillic, Hebrew, Arabic, Devanagari, Thai, Japanese and Korean."""

FAILED = "no response: "
"""Prefix of the names by which prompts without a response are counted."""
DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")

REPEATED = 0.5
"""Share of repeated runs of words above which a response counts as repetition, as in the alarms during training."""


def empty(row: Row) -> bool:
    """Whether the response has no text."""
    return not (row.get("response") or "").strip()


def truncated(row: Row) -> bool:
    """Whether the response was cut at the limit of new tokens."""
    return row.get("finished") is False


def special_token(row: Row) -> bool:
    """Whether the response holds a special token, such as the image token."""
    return any(mark in row["response"] for mark in MARKS)


def broken_text(row: Row) -> bool:
    """Whether the response holds a broken character."""
    return "\ufffd" in row["response"]


def repetition(row: Row) -> bool:
    """Whether the response mostly repeats the same words."""
    text = row["response"]
    units: Sequence[str] = text if language_of(text) == "zh" else text.split()
    return repeated_share(units) > REPEATED


def language_mix(row: Row) -> bool:
    """Whether the response is in another script than the question: Chinese for English, the reverse, or a third one."""
    question, text = row.get("question", ""), row["response"]
    if not text.isascii() and OTHER_SCRIPTS.search(text) and not OTHER_SCRIPTS.search(question):
        return True
    if language_of(question) == "zh":
        letters = sum(char.isalpha() for char in text)
        return letters > 80 and han(text) / letters < 0.1
    return han(question) == 0 and han(text) > 2


def run_on(row: Row) -> bool:
    """Whether the response continues with another question after its answer."""
    return RUN_ON.search(row["response"]) is not None


FILTERS: dict[str, Callable[[Row], bool]] = {
    rule.__name__: rule for rule in (empty, truncated, special_token, broken_text, repetition, language_mix, run_on)
}
ALWAYS = ("empty", "special_token")
"""Filters that cannot be turned off, since shards refuse such pairs too."""


def no_response(row: Row) -> str | None:
    """Returns the name by which a missing response is counted; None if there is a response.

    The name is the reason without numbers and quoted names, so that equal failures are counted together.

    Args:
        row: a response; `error` is the engine's reason for a missing one.
    """
    if not row.get("error"):
        return None
    reason = str(row["error"]).removeprefix(f"{row.get('where')}: ")
    return f"{FAILED}{DETAIL.sub('..', reason):.100}"


def first_failed(row: Row, names: Sequence[str]) -> str | None:
    """Returns the name of the first filter that a response fails, in the order of `FILTERS`; None if it passes.

    Args:
        row: a response with `response`, `question`, `finished`.
        names: names of the filters in use; `ALWAYS` is always in use.
    """
    for name, rule in FILTERS.items():
        if (name in names or name in ALWAYS) and rule(row):
            return name
    return None


def check_filters(names: Sequence[str]) -> None:
    """Raises InputError for an unknown filter."""
    for name in names:
        if name not in FILTERS:
            raise InputError(f"there is no filter '{name}'; known are {', '.join(FILTERS)}")
