"""Finds the mathematics in an answer's words, the likeliest reading first."""

import re

from mpo_lightning.answers.response.announcements import joined_boxes
from mpo_lightning.answers.values.numbers import parse_number

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
LABEL = re.compile(r"^\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is)?\s*[:=]?\s*", re.IGNORECASE)
PROSE = re.compile(r"[A-Za-z]{3,}\s+[A-Za-z]{2,}|[A-Za-z]{4,}\s")
UNIT_BEHIND = re.compile(
    r"(?<=[\dπ})])\s*(?:(?<=[\s}])(?:mm|cm|dm|km|m|in|ft|kg|g|s|units?|degrees))(?:\s?\^\s?\{?[23]\}?|[²³])?\s*$"
)
JOINED = re.compile(r"(?:\\(?:text|mathrm)\s*\{|\}|[\s,;.、或和]|and|or)*")
"""What stands between formulas that are one answer."""
COPULA = re.compile(r"\b(?:is|are|equals|be)\b\s*:?(?:\s+at(?=\s))?", re.IGNORECASE)
CONDITION = re.compile(r"\\text\s*\{\s*\(?\s*(?:for|if|when|where|with|since)\b.*$", re.DOTALL)
"""A condition behind a formula."""
FINAL_POINT = re.compile(r"(?<![.\s])[.。]$")
HAN_UNIT = re.compile(r"\s*\([\u4e00-\u9fff]{1,6}\)\s*[.。]?$")
"""A unit in brackets: （平方厘米）."""
BOILERPLATE = re.compile(r"\.?\s*I hope (?:it|this) is correct\.?\s*$", re.IGNORECASE)

UPRIGHT = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{[^{}]*\}|\\[a-zA-Z]+")
WORD = re.compile(
    r"(?<![A-Za-z])(?!(?:sin|cos|tan|log|exp|max|min|sqrt|and|arc[a-z]{3}|theta|alpha|beta)(?![a-z]))[A-Za-z]?[a-z]{2,}"
)


def is_worded(text: str) -> bool:
    """Whether words other than a number's unit surround an answer's mathematics."""
    return parse_number(text) is None and bool(WORD.search(UPRIGHT.sub(" ", text)))


def gold_reading(gold: str) -> str:
    """The right answer itself: without labels and dollar signs; formulas joined by "or" or commas stay together."""
    joined = FORMULA.sub(lambda match: next(piece for piece in match.groups() if piece), gold)
    if len(FORMULA.findall(gold)) > 1 and JOINED.fullmatch(FORMULA.sub("", gold)):
        return joined
    return next(iter(readings(gold)), gold.strip())


def _last_joined(text: str) -> list[str]:
    """The last formulas of a text if "or", "and" or a comma joins them: "giving $x=2$ or $x=3$"."""
    matches = list(FORMULA.finditer(text[-3000:]))
    start = len(matches) - 1
    while start > 0 and JOINED.fullmatch(text[-3000:][matches[start - 1].end() : matches[start].start()]):
        start -= 1
    group = [next(piece for piece in match.groups() if piece) for match in matches[start:]]
    return [", ".join(group)] if len(group) > 1 else []


def readings(text: str) -> list[str]:
    """Candidates for an answer's mathematics: a box, the last formula among words, the words without labels, the text
    after the last "is".
    """
    text = HAN_UNIT.sub("", CONDITION.sub("", BOILERPLATE.sub("", text.strip())))
    boxed = joined_boxes(text)
    found = [boxed] if boxed is not None else []
    found += _last_joined(text)
    first = re.split(r"(?<=[^\d\s][.!?])\s+(?=[A-Z])|(?<=\d[.!?])\s+(?=[A-Z])", text)[0]
    for part in dict.fromkeys([first, text]):
        trimmed = FINAL_POINT.sub("", LABEL.sub("", part).strip()).strip(" *`")
        formulas = [next(piece for piece in match.groups() if piece) for match in FORMULA.finditer(part[-3000:])]
        outside = FORMULA.sub(" ", part)
        behind = COPULA.split(trimmed)[-1].strip(" :") if COPULA.search(trimmed) else ""
        if formulas and (PROSE.search(outside) or not re.search(r"[\d=]", outside)):
            # "... is 120" after a formula that only names a quantity
            tail = [behind] if behind and "$" not in behind and "\\" not in behind and re.search(r"\d", behind) else []
            found += [*tail, formulas[-1], *([", ".join(formulas)] if len(formulas) > 1 else [])]
        else:
            found += [trimmed]
        found += [behind]
    found += [UNIT_BEHIND.sub("", piece) for piece in found if UNIT_BEHIND.search(piece)]
    return [reading for reading in dict.fromkeys(piece.strip() for piece in found) if reading]
