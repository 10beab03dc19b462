"""Recognizes that a response takes an answer back: "wait, no", "scratch that", "42... no, 41".

The words of a correction also occur where nothing is retracted ("customers wait 5 minutes", "option A: this is
wrong"). The answer announced before them then stands.
"""

import re

from mpo_lightning.answers.response.announcements import announcements
from mpo_lightning.answers.response.extract import announced

CORRECTION = re.compile(
    r"(?:^|(?<=[.!?\n,;:—-])|(?<=[.!?\n,;:—-]\s))\s{0,3}(?:(?:oh|but|no|hmm+)\b,?\s+)?(?:wait"
    r"|hold\s+on)\b(?=\s*[,.!?:…—-]|\s+(?:no|i|let|that|actually|it)\b)|"
    r"\b(?:no\s+wait\b|actually,|correction\b|(?:on|after)\s+(?:second\s+thought|reflection|checking"
    r"|reconsideration)|i\s+made\s+(?:a|an)\s+(?:mistake|error)|i\s+(?:was|am)\s+wrong|scratch\s+that|strike\s+that|edit(?=:)|change\s+my\s+answer\s+to"
    r"|my\s+(?:mistake|bad)|let\s+me\s+correct)|等等|不对，|更正",
    re.IGNORECASE,
)
"""Words that retract what was said before them."""

AFTERTHOUGHT = re.compile(
    r"(?<=[\w).\]}$\s,;:!?—。，；-])(?:\b(?:oops|whoops|sorry|hmm+|actually|rather|instead|no|nope|i\s+mean|i\s+meant"
    r"|make\s+that|correct(?:ed|ion)|apologies)\b(?!\s+(?:doubt|other|more|longer|one|of|than|matter|further))"
    r"|更正|不对|应该是)",
    re.IGNORECASE,
)
"""Words that retract an announced answer right before them. Elsewhere they say something else ("no bars")."""
FILLER = re.compile(
    r"^(?:\W|(?:oops|sorry|hmm+|no|wait|actually|i|was|am|wrong|mean|meant|mistake|my|it|that|the|answer"
    r"|should|must|be|is|'s|it's|so|rather|instead|correction|correct|make|on|second|thought|reflection|option|choice|final)\b)*",
    re.IGNORECASE,
)
"""What stands between a retraction and the new answer."""

DOUBT = re.compile(
    r"\blet\s+me\s+(?:re(?:do|compute|calculate|consider|think|check)|correct)|\b(?:that|this)(?:\s+is|'s"
    r"|\s+was)\s+(?:wrong|incorrect|not\s+right)",
    re.IGNORECASE,
)
"""Words that retract only if another answer follows; otherwise they concern an option or a check that succeeded."""

INSTEAD = re.compile(r"\bso\s+(?:it|that|the)\b|\b(?:should|must)\s+be\b|\bit(?:'s|\s+is)\b", re.IGNORECASE)
SHORT_REST = 40
"""Most characters after a correction that are nothing but the new answer."""
NEAR = 100
"""Most characters between an announced answer and the afterthought that retracts it."""

CORRECTING = re.compile(
    r"wait|hold on|actually|correct|thought|reflection|checking|consider|let me re|wrong|not right|mistake|change"
    r"|bad|error|scratch that|strike that|oops|sorry|hmm|rather|instead|i mean|edit|make that|apologies|等等|不对|更正"
    r"|应该是|\bno\b",
    re.IGNORECASE,
)
"""Every correction contains one of these words. They are searched first because that is fast."""

SHORTEST = 9
"""Fewest characters that hold an answer, a correction and another answer."""


def corrected(text: str, choices: tuple[str, ...] = ()) -> str | None:
    """The text after the last correction that another answer follows; None if nothing is retracted.

    Args:
        text: a response.
        choices: the question's options; if "no" is one, it does not retract an answer.
    """
    if len(text) < SHORTEST or CORRECTING.search(text) is None:
        return None
    text = text[-10_000:]
    if (
        rest := _afterthought(text, no_is_an_answer="no" in {choice.strip().lower() for choice in choices})
    ) is not None:
        return rest
    for match in list(CORRECTION.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:200]) or len(rest) <= SHORT_REST:
            return rest
    for match in list(DOUBT.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:60]):
            return rest
    return None


def _afterthought(text: str, no_is_an_answer: bool) -> str | None:
    """The short answer that takes back an announced one: "Final answer: 42... no, 41"; None if nothing does."""
    found = announcements(text)
    if not found:
        return None
    tail = text[found[-1].end :]
    for match in AFTERTHOUGHT.finditer(tail[: NEAR + 100]):
        if match[0].lower() in ("no", "nope") and (
            no_is_an_answer or not re.match(r"[,.:;]|\s+(?:it|i)\b", tail[match.end() :])
        ):
            continue
        if not any(mark.isalnum() for mark in tail[: match.start()].replace("boxed", "")):
            continue
        rest = FILLER.sub("", tail[match.start() :]).strip(" ,.:;—-")
        if rest and len(rest) <= SHORT_REST and match.start() <= NEAR:
            return rest
    return None


TAKES_BACK = re.compile(
    r"\b(?:wait|hold\s+on|actually|check(?:ing|ed)?|double-check|verify\w*"
    r"|re-?\w*(?:comput|calculat|consider|think|examin|check)\w*|wrong|incorrect|mistake|error|not\s+(?:right|correct|it)|instead|correction|after|therefore|thus|hence|finally"
    r"|first|initially|but|however|no|forgot|missed|so|total|overall|altogether|sum|adding|added)\b|\.\.\.|…|更正|不对|等等|因此|所以",
    re.IGNORECASE,
)
"""Words between two announcements by which the later one replaces the earlier."""


def takes_back(between: str) -> bool:
    """Whether the text between two announcements says that the later one counts."""
    return TAKES_BACK.search(between[-2000:]) is not None
