"""Finds where a response states its answer.

The rules in order: the last announcement of an answer, of any kind; a response that is nothing but an answer; the
sentence that concludes. The reference code's first rule takes the first "Answer:" and one line, and so mistakes
reasoning for answers (InternVL `extract_answer.py`, VLMEvalKit `utils.py`).
"""

import re

from mpo_lightning.answers.question import Extraction
from mpo_lightning.answers.response.announcements import announcements
from mpo_lightning.answers.values.normal import normal
from mpo_lightning.answers.values.numbers import WRITTEN

HEAD, TAIL = 2_000, 10_000
"""Characters read at both ends of a response; a longer one does not state its answer in the middle."""

SHORT_REFUSAL = 100
"""Longest answer, in characters, that is a refusal even if it also contains a guess."""
SHORT = 700
"""Longest response, in characters, whose first sentence is read as its answer if no sentence concludes."""

EMPHASIS = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w({\\-])|__(?=\w)|(?<=\w)__")
SPECIAL = re.compile(r"</s>|<s>|<\|[a-z_]{1,20}\|>|<pad>|<unk>|\[/?INST\]", re.IGNORECASE)
THOUGHT = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>.*$", re.DOTALL | re.IGNORECASE)
"""Thoughts: all before their end, whose start may be in the prompt, or all behind a start without an end."""
LONE = re.compile(r"\s*[(（]?[A-Z][)）]?[.。]?\s*")
REFUSAL = re.compile(
    r"\b(?:i\s+(?:can(?:no|')t|cannot|am\s+unable|'m\s+unable|do\s+not\s+(?:have|know)|don't\s+(?:have|know)"
    r"|do\s+not\s+see|don't\s+see|apologi[sz]e(?!\s+for\s+(?:the|any|my)\s+(?!inability)))|"
    r"i'm\s+(?:sorry(?!\s+for\s+the\s+(?:confusion|mistake|error))|unable|not\s+(?:able|sure))|i\s+am\s+(?:sorry|not\s+(?:able|sure))|(?:it\s+is|it's|is"
    r"|answer\s+is)\s+(?:not\s+possible|impossible|difficult|unclear|not\s+clear)|"
    r"(?:not|in)\s*(?:enough|sufficient)\s+information|insufficient\s+information|can(?:no|')t\s+be\s+(?:determined"
    r"|answered)|cannot\s+be\s+(?:determined|answered|calculated)|"
    r"without\s+(?:knowing|seeing|(?:additional|more|further|any|the)\s+(?:\w+\s+){0,2}(?:information|context|details?|data"
    r"|image|picture|figure|diagram|graph))\b[^.]{0,60}|unable\s+to\s+(?:determine|answer"
    r"|provide)|no\s+way\s+to\s+(?:tell|know|say|determine)|not\s+possible\s+to\s+(?:determine|answer|provide|know)|"
    r"no\s+(?:image|information|context)\b[^.]{0,40}(?:provided|given|available)|(?:please"
    r"|could\s+you)\s+(?:please\s+)?provide)|无法(?:确定|回答|判断|得出|计算)|不能确定|信息不足|n/a\b",
    re.IGNORECASE,
)
CONCLUSION = re.compile(
    r"(?:^|(?<=[\s,.;:*]))(?:therefore|thus|hence|so|consequently|in\s+conclusion|in\s+total|finally|as\s+a\s+result"
    r"|accordingly|this\s+means|overall|to\s+summarize)\b|因此|所以|综上|故|总共|一共",
    re.IGNORECASE,
)

STATED = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals)\b|[=≈:])\s*(?:approximately|about|around|only|exactly|equal\s+to|\$|:"
    r"|\\[(\[])*\s*-?[\d.,]+(?:\s?\S{1,12}){0,2}[.)$]*$",
    re.IGNORECASE,
)
REMAINING = re.compile(
    rf"({WRITTEN})\s+(?:(?!on\b|the\b|to\b|at\b|in\b)[a-z]+\s+){{0,2}}(?:remain(?:s|ing)?|left)\b(?!\s+(?:side|of"
    rf"|hand))|\b(?:leaves|leaving)\b\D{{0,25}}\d",
    re.IGNORECASE,
)
"""A statement of what remains."""
INVENTED = re.compile(
    r"\n[ \t]*(?:#+[ \t]*)?(?:Question|Hint|Human|User|Instruction|Problem)\s?\d{0,3}\s?:", re.IGNORECASE
)
"""The point where a model that does not stop goes on with a question of its own."""

CHALLENGE = re.compile(r"[^\n]{0,60}(?:sure|again|really|wrong|incorrect|mistake|check)", re.IGNORECASE)
"""A question that doubts the answer: what follows it belongs to the response."""
RUN = re.compile(r"(.{1,8}?)\1{40,}", re.DOTALL)
"""A piece repeated without end, such as blank lines or dots; a run would also slow the patterns below."""


def _may_run(text: str) -> bool:
    """Whether a text may contain a run: somewhere 24 characters have at most 8 distinct ones.

    This is faster than searching for runs.
    """
    return len(text) > 40 and any(len(set(text[place : place + 24])) <= 8 for place in range(0, len(text) - 23, 16))


def clean(response: str) -> str:
    """A response without thoughts, special tokens and bold markup, in the plain form of `normal`."""
    if len(response) > HEAD + TAIL:
        response = response[:HEAD] + "\n" + response[-TAIL:]
    if _may_run(response):
        response = RUN.sub(r"\1\1\1", response)
    if "think" in response:
        response = THOUGHT.sub(" ", response)
    if "<" in response or "[" in response:
        response = SPECIAL.sub(" ", response)
    response = normal(response)
    if "**" in response or "__" in response:
        response = EMPHASIS.sub("", response)
    invented = INVENTED.search(response) if "\n" in response else None
    if (
        invented
        and not CHALLENGE.match(response, invented.end())
        and announced(response[: invented.start()]) is not None
    ):
        response = response[: invented.start()]
    return response.strip()


def announced(text: str) -> Extraction | None:
    """The text after the last announcement of an answer; None if nothing is announced."""
    found = announcements(text)
    return Extraction(found[-1].text, found[-1].rule) if found else None


def last_line(text: str) -> Extraction | None:
    """The letter that stands alone in a text's last line; None if there is none."""
    *before, last = text.rsplit("\n", 1)
    if not before or not LONE.fullmatch(last) or LONE.fullmatch(before[0].rsplit("\n", 1)[-1]):
        return None
    return Extraction(last.strip(), "last line")


def is_refusal(text: str) -> bool:
    """Whether a text says that it cannot answer."""
    return bool(REFUSAL.search(text))


def sentences(text: str) -> list[str]:
    """Splits a text into sentences; a point between digits does not end one."""
    parts = re.split(r"\n+|(?<=[^\d\s][.!?])\s+|(?<=\d[.!?])\s+(?=[A-Z(*])|(?<=[。!?;])", text)
    return [part.strip() for part in parts if part and part.strip()]


def conclusion(text: str) -> Extraction | None:
    """The concluding sentence: the last one with "therefore" or the like, otherwise the last one."""
    found = sentences(text)
    if not found:
        return None
    for place in range(len(found) - 1, max(-1, len(found) - 4), -1):
        if STATED.search(found[place][-200:]):
            return Extraction(found[place], "statement")
        if REMAINING.search(found[place]):
            return Extraction(found[place], "conclusion")
        if CONCLUSION.search(found[place]):
            if place + 1 < len(found) and found[place].endswith(":"):
                return Extraction(found[place + 1], "conclusion")
            return Extraction(found[place], "conclusion")
    if len(found) > 1 and len(text) < SHORT and re.search(r"\d", found[0]):
        return Extraction(found[0], "first sentence")
    return Extraction(found[-1], "last sentence" if len(found) > 1 else "sentence")
