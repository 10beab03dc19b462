"""Recognizes what keeps words from being an answer.

These are denials and asides ("not 5"), bounds ("less than 5", "4 or 5") and corrections ("wait, no"). They matter most
when the checker labels training pairs: "less than 5", "not 5" and "5 or 6" contain a 5, and none of them answers 5.
Bounds are removed before a text's number is read. So "the number of bars below 40 is 3" says 3, and "more than 5
people" says nothing. The words of a correction also occur where nothing is retracted ("customers wait 5 minutes",
"option A: this is wrong"). The answer announced before them then stands.
"""

import re

from mpo_lightning.answers.response.extract import announced
from mpo_lightning.answers.values.numbers import WRITTEN

DENIAL = re.compile(
    r"\b(?:not|never|no\s+longer|cannot|can't|neither|nor|incorrect|wrong|false|eliminated?|unlike|rather\s+than"
    r"|instead\s+of|anything\s+but|nothing\s+to\s+do\s+with|"
    r"no\s+evidence\s+(?:for|of)|(?:is|are|was|were|do|does|did|has|have|had|could|would|should)n't)\b|不是|不|并非|排除",
    re.IGNORECASE,
)
"""Words before what they deny."""

DENIED_BEHIND = re.compile(
    r"[\s)）\]:.\"'*]{0,4}(?:(?:is|are|was|seems|looks|must\s+be|can\s+be|could\s+be|would\s+be)\s+)?(?:clearly\s+"
    r"|also\s+|definitely\s+|therefore\s+|obviously\s+)?"
    r"(?:not\b|wrong\b|incorrect\b|false\b|impossible\b|ruled\s+out|eliminated\b|excluded\b|out\s+of\s+the\s+question"
    r"|isn't\b|cannot\b|can't\b|不对|错误|不正确|不成立|被排除|是错)",
    re.IGNORECASE,
)
"""Words after what they deny."""

ASIDE = re.compile(
    r"(?<=[^\s\\])\s*(?:\((?=[^()]{0,200}[A-Za-z]{2})[^()]{0,200}\)|[,;]?\s+(?:not|rather\s+than|instead\s+of"
    r"|and\s+not|but\s+not|since|because|as\s+(?:the|there|we|it|shown)|given\s+that|which(?!\s+(?:is"
    r"|equals)\s+[-$\d.,]+\s?\S{0,12}$)|i\.e|that\s+is|namely)\b.*)\s*[.。]?\s*$",
    re.IGNORECASE | re.DOTALL,
)
"""An explanation after an answer."""

EITHER = re.compile(r"(?<![A-Za-z])[(（]?[A-H][)）]?\s*(?:or|或者?|/)\s*[(（]?[A-H][)）]?(?![A-Za-z])")

ANSWER_NO = re.compile(
    r"\W*$|\s*[,.;:!)\"'*—–\n-]|\s+(?:it|there|they|he|she|this|that|these|because|since|we|i|you|not|as)\b",
    re.IGNORECASE,
)
"""Text after a "no" that is an answer; before a noun, "no" is a count ("no other bar")."""


def is_denied(before: str, behind: str = "") -> bool:
    """Whether something is denied by the words before it ("not", without a later "but") or right after it."""
    last = re.split(r"(?<!anything )\bbut\b|[.;,，。；]", before)[-1]
    return bool(DENIAL.search(last) or DENIED_BEHIND.match(behind))


def without_aside(text: str) -> str:
    """An answer without its explanation: "5, not 6", "8 (4 on each side)"."""
    return ASIDE.sub("", text, count=1) if len(text) <= 600 else text


def is_answer_no(behind: str) -> bool:
    """Whether a "no" is an answer, judged by the text after it."""
    return ANSWER_NO.match(behind) is not None


_MORE = r"(?:more|less|fewer|greater|higher|lower|larger|smaller|above|below|older|younger)"
_BOUND = (
    r"(?:more|less|\w{2,12}er)\s+than|at\s+(?:most|least)|up\s+to|over|under|above|below|exceed(?:s|ing)?|not(?:\s+be)?"
)
_HAN = "大于|小于|至少|至多|不超过|超过|不到|少于|多于|最多|最少|高于|低于|不是"

COMPARISON = re.compile(
    r"^\D{0,60}?(?:\b(?:(?:less|more|fewer|greater|larger|smaller|higher|lower|other)\s+than|at\s+(?:most|least)"
    r"|up\s+to|between|over|under|above|below)\b|"
    rf"大于|小于|至少|至多|不超过)[^\d.]{{0,12}}\d|^\D{{0,60}}?[\d.,]+\s*(?:\w+\s+)?or\s+{_MORE}\b",
    re.IGNORECASE,
)
"""A text whose first number is a bound in words."""

SIGN = re.compile(r"^\D{0,60}?(?:[<>≤≥]|\\(?:leq?|geq?|lt|gt)\b)[^\d.]{0,12}\d")
"""A text whose first number is a bound in signs."""

OPERATED = re.compile(
    r"\b(?:twice|double|triple|(?:half|third|quarter|square|cube|root|percent"
    r"|multiple)\s+of)\s+(?:the\s+)?\$?\d[\d.,]*(?!.*(?:\bis\b|[=≈]))|^\W*\$?\d[\d.,]*\s+(?:more|less|fewer"
    r"|greater|higher|lower)\s+than\s+\$?\d(?!.*(?:\bis\b|[=≈]))|\d\s*(?:squared|cubed|factorial|times\s+(?:as"
    r"|the|more))\b(?!.*(?:\bis\b|[=≈]))",
    re.IGNORECASE | re.DOTALL,
)
"""A number that words calculate with."""
BOUNDED = re.compile(
    rf"(?:(?:\b(?:{_BOUND})|n't)\s+(?:or\s+equal\s+to\s+)?(?:a\s+|the\s+)?|(?:{_HAN})\s?){WRITTEN}"
    rf"|\bbetween\s+{WRITTEN}\s+(?:and|to)\s+{WRITTEN}"
    rf"|{WRITTEN}\s+(?:\w+\s+)?or\s+{_MORE}\b|\d+\s?(?:以上|以下)",
    re.IGNORECASE,
)
RANGE = re.compile(
    rf"(?<![\d.=+*/^-])(?<![=+*/^-]\s)(?P<low>{WRITTEN})\s?(?:to|or|~|～|到|至|或"
    rf"|[-–])\s?(?P<high>{WRITTEN})(?!\s?[=≈*/+^]|[\d.]*\d)",
    re.IGNORECASE,
)
LONGEST = 4000


def is_bound(text: str, signs: bool = True) -> bool:
    """Whether an answer is a bound, a denial or a calculation in words, not a value: "less than 5", "not 5", "twice 5".

    Args:
        text: the answer.
        signs: whether < and similar signs count.
    """
    denied = re.match(
        r"\W*(?:definitely\s+|clearly\s+|certainly\s+)?(?:not|never|anything\s+but)\b|\W*不是", text, re.IGNORECASE
    )
    return bool(denied or COMPARISON.search(text) or OPERATED.search(text) or (signs and SIGN.search(text)))


def without_bounds(text: str) -> str:
    """A text without the numbers that bound, deny or span; a difference (8-5) and the two sides of a ratio stay."""
    if len(text) > LONGEST:
        return text
    return RANGE.sub(_unless_falling, BOUNDED.sub(" ", text))


def _unless_falling(match: re.Match[str]) -> str:
    low, high = (re.sub(r"[^\d.]", "", match[name]) for name in ("low", "high"))
    falling = low and high and float(low.rstrip(".")) >= float(high.rstrip("."))
    return match[0] if falling else " "


CORRECTION = re.compile(
    r"(?:^|(?<=[.!?\n,;:—-])|(?<=[.!?\n,;:—-]\s))\s{0,3}(?:(?:oh|but|no|hmm+)\b,?\s+)?(?:wait"
    r"|hold\s+on)\b(?=\s*[,.!?:…—-]|\s+(?:no|i|let|that|actually|it)\b)|"
    r"\b(?:no\s+wait\b|actually,|correction\b|on\s+second\s+thought|i\s+made\s+(?:a|an)\s+(?:mistake|error)"
    r"|scratch\s+that|my\s+mistake)|等等|不对，|更正",
    re.IGNORECASE,
)
"""Words that retract what was said before them."""

DOUBT = re.compile(
    r"\blet\s+me\s+(?:re(?:do|compute|calculate|consider|think|check)|correct)|\b(?:that|this)(?:\s+is|'s"
    r"|\s+was)\s+(?:wrong|incorrect|not\s+right)",
    re.IGNORECASE,
)
"""Words that retract only if another answer follows; otherwise they concern an option or a check that succeeded."""

INSTEAD = re.compile(r"\bso\s+(?:it|that|the)\b|\b(?:should|must)\s+be\b|\bit(?:'s|\s+is)\b", re.IGNORECASE)
SHORT_REST = 25
"""Most characters after a correction that are nothing but the new answer."""

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
"""Every correction contains one of these words. They are searched first because that is fast."""

SHORTEST = 15
"""Fewest characters that hold an answer, a correction and another answer."""


def corrected(text: str) -> str | None:
    """The text after the last correction that another answer follows; None if nothing is retracted."""
    if len(text) < SHORTEST:
        return None
    small = text.lower()
    if not any(word in small for word in CORRECTING):
        return None
    text = text[-10_000:]
    for match in list(CORRECTION.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:200]) or len(rest) <= SHORT_REST:
            return rest
    for match in list(DOUBT.finditer(text))[:-20:-1]:
        rest = text[match.end() :]
        if announced(rest) or INSTEAD.search(rest[:60]):
            return rest
    return None
