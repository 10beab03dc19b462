"""Answers that are taken back: "wait, no", "actually, ...", "let me recompute".

The same words occur where nothing is taken back ("customers wait 5 minutes", "option A: this is wrong"), and what was announced before them is then the answer.
"""

import re

from mpo_lightning.answers.extract import announced

CORRECTION = re.compile(
    r"(?:^|(?<=[.!?\n,;:—-])|(?<=[.!?\n,;:—-]\s))\s{0,3}(?:(?:oh|but|no|hmm+)\b,?\s+)?(?:wait|hold\s+on)\b(?=\s*[,.!?:…—-]|\s+(?:no|i|let|that|actually|it)\b)|"
    r"\b(?:no\s+wait\b|actually,|correction\b|on\s+second\s+thought|i\s+made\s+(?:a|an)\s+(?:mistake|error)|scratch\s+that|my\s+mistake)|等等|不对，|更正",
    re.IGNORECASE,
)
"""Takes back what was said before it."""

DOUBT = re.compile(
    r"\blet\s+me\s+(?:re(?:do|compute|calculate|consider|think|check)|correct)|\b(?:that|this)(?:\s+is|'s|\s+was)\s+(?:wrong|incorrect|not\s+right)",
    re.IGNORECASE,
)
"""Takes it back where another answer follows; otherwise it is about an option, or a check that went well."""

INSTEAD = re.compile(r"\bso\s+(?:it|that|the)\b|\b(?:should|must)\s+be\b|\bit(?:'s|\s+is)\b", re.IGNORECASE)
SHORT = 25
"""Characters behind a correction that are nothing but the new answer."""

CORRECTING = (
    "wait",
    "hold on",
    "actually,",
    "correct",
    "second thought",
    "let me re",
    "wrong",
    "not right",
    "mistake",
    "error",
    "scratch that",
    "等等",
    "不对",
    "更正",
)
"""One of these is in every correction; looked for first, since it is quick."""

SHORTEST = 15
"""Characters of an answer, a correction of it and another one."""


def corrected(text: str) -> str | None:
    """What stands behind the last correction of a text that another answer follows; None where nothing is taken back."""
    if len(text) < SHORTEST:
        return None
    small = text.lower()
    if not any(word in small for word in CORRECTING):
        return None
    text = text[-10_000:]
    for match in list(CORRECTION.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:200]) or len(rest) <= SHORT:
            return rest
    for match in list(DOUBT.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:60]):
            return rest
    return None
