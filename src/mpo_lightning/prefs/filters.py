"""Quality filters: small rules with names, each with a count in the report. A filter says why a response is not used,
on either side of a pair.

What they are for: a verdict looks at the answer only. A right answer behind ten repeated paragraphs, cut off in
mid-sentence, or in another language than the question's would be learned along with it.
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
"""Marks that no text may hold: they would forge a prompt's structure."""
MARKS = (*STRUCTURE, IMAGE_MARK, "<box>", "</box>", "<ref>", "</ref>", "<quad>", "</quad>")
"""Special tokens of InternVL2's checkpoints: a model here cannot draw them, a server's can."""
RUN_ON = re.compile(r"\n\s*(?:\*\*)?(?:Question|Hint|Problem|Choices|User|Human|问题|提示)\s*[:：]")
OTHER_SCRIPTS = re.compile(r"[\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\uac00-\ud7af]")
"""Cyrillic, Hebrew, Arabic, Devanagari, Thai, Japanese, Korean."""

FAILED = "no response: "
"""How the counts of prompts that an engine could not answer begin."""
DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")

REPEATED = 0.5
"""Share of repeated runs of words above which a response is mostly repetition; as in the alarms during training."""


def empty(row: Row) -> bool:
    """Nothing was said."""
    return not (row.get("response") or "").strip()


def truncated(row: Row) -> bool:
    """Cut at the limit of new tokens."""
    return row.get("finished") is False


def special_token(row: Row) -> bool:
    """Holds a special token, such as the image token's."""
    return any(mark in row["response"] for mark in MARKS)


def broken_text(row: Row) -> bool:
    """Holds half of a character."""
    return "\ufffd" in row["response"]


def repetition(row: Row) -> bool:
    """Mostly the same words again and again."""
    text = row["response"]
    units: Sequence[str] = text if language_of(text) == "zh" else text.split()
    return repeated_share(units) > REPEATED


def language_mix(row: Row) -> bool:
    """In another script than the question's: Chinese in an answer to an English question, or the other way round, or
    one that neither has.
    """
    question, text = row.get("question", ""), row["response"]
    if not text.isascii() and OTHER_SCRIPTS.search(text) and not OTHER_SCRIPTS.search(question):
        return True
    if language_of(question) == "zh":
        letters = sum(char.isalpha() for char in text)
        return letters > 80 and han(text) / letters < 0.1
    return han(question) == 0 and han(text) > 2


def run_on(row: Row) -> bool:
    """Goes on with a question of its own behind its answer."""
    return RUN_ON.search(row["response"]) is not None


FILTERS: dict[str, Callable[[Row], bool]] = {
    rule.__name__: rule for rule in (empty, truncated, special_token, broken_text, repetition, language_mix, run_on)
}
ALWAYS = ("empty", "special_token")
"""Not a matter of taste: a pair with such a side is refused by the shards as well."""


def no_response(row: Row) -> str | None:
    """Why there is no response, as a name to count by: numbers and names in the reason left out, so that equal failures
    are counted together; None where there is one.

    Args:
        row: with `error` where the engine gave a reason instead of a response.
    """
    if not row.get("error"):
        return None
    reason = str(row["error"]).removeprefix(f"{row.get('where')}: ")
    return f"{FAILED}{DETAIL.sub('..', reason):.100}"


def first_failed(row: Row, names: Sequence[str]) -> str | None:
    """The name of the first filter that sets a response aside, in the order of `FILTERS`.

    Args:
        row: with `response`, `question`, `finished`.
        names: of the filters in use; `ALWAYS` are in use anyway.
    """
    for name, rule in FILTERS.items():
        if (name in names or name in ALWAYS) and rule(row):
            return name
    return None


def check_filters(names: Sequence[str]) -> None:
    """Raises InputError for a name that no filter has."""
    for name in names:
        if name not in FILTERS:
            raise InputError(f"there is no filter '{name}'; known are {', '.join(FILTERS)}")
