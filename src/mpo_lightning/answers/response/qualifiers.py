"""Recognizes what keeps words from being an answer: denials and asides ("not 5"), bounds ("less than 5"), alternatives.

They matter most when the checker labels training pairs: "less than 5", "not 5" and "5 or 6" contain a 5, and none of
them answers 5. Bounds are removed before a text's number is read. So "the number of bars below 40 is 3" says 3, and
"more than 5 people" says nothing.
"""

import re
from functools import lru_cache

from mpo_lightning.answers.values.numbers import WRITTEN, parse_number

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

EITHER = re.compile(r"(?<![A-Za-z])[(（]?[A-J][)）]?\s*(?:or|或者?|/)\s*[(（]?[A-J][)）]?(?![A-Za-z])")

ANSWER_NO = re.compile(
    r"\W*$|\s*[,.;:!/)\"'*—–\n-]|\s+(?:it|there|they|he|she|this|that|these|because|since|we|i|you|not|as)\b",
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
    r"(?:more|less|\w{2,12}er)\s+than|at\s+(?:most|least)|up\s+to|over|under|above|below|exceed(?:s|ing)?"
    r"|(?:not|cannot)(?:\s+be)?|hardly|scarcely"
)
_HAN = "大于|小于|至少|至多|不超过|超过|不到|少于|多于|最多|最少|高于|低于|不是"

VAGUE = re.compile(
    r"^\W*(?:it(?:'s|\s+is)\s+)?(?:nearly|almost|close\s+to|near|far\s+from|not\s+far\s+from|before|after|since|until|prior\s+to|mid|early|late"
    r"|around\s+the\s+time|upwards\s+of|(?:just\s+)?(?:shy|short)\s+of|in\s+excess\s+of|non-?zero|(?:the\s+)?absolute\s+value\s+of|(?:the\s+)?(?:opposite|negative|inverse|reciprocal|double|half|square|cube|root)\s+of|no\s+longer|hardly|scarcely|barely|cannot"
    r"|without|all\s+(?:except|but)|every\w*\s+(?:except|but)|any\w*\s+but|except|unlike|neither)\b"
    r"|\b(?:below|above)\s+(?:zero|freezing)\b|^\W*\d[\d.,]*\+\W*$"
    r"|\d[\d.,]*\s*,?\s*(?:at\s+(?:least|most)|and\s+(?:above|below|up|over|more|less))\b|\d\s+(?:more|less|fewer)\s+than\b"
    r"|\btimes\s+as\s|\((?:incorrect|wrong)\)|^\W*unknown\b|^\W*±|^\W*\d+D\W*$"
    r"|\d\s?(?:以[上下内外]|多|余|几|分之|个半|的一半|千|百万)|[一二两三四五六七八九十]个半|十几|[近除]\s?\d|不[足到超]\s?\d|错误|^\W*(?:around|about|circa|c\.)\s+(?:the\s+year\s+)?(?:1\d|20)\d\d\W*$",
    re.IGNORECASE,
)
"""An answer that is only near, before or beside what it names."""

COMPARISON = re.compile(
    r"^\D{0,60}?(?:\b(?:(?:less|more|fewer|greater|larger|smaller|higher|lower|other)\s+than|at\s+(?:most|least)"
    r"|up\s+to|between|over|under|above|below)\b|"
    rf"大于|小于|至少|至多|不超过)[^\d.]{{0,12}}\d|^\D{{0,60}}?[\d.,]+\s*(?:\w+\s+)?or\s+{_MORE}\b",
    re.IGNORECASE,
)
"""A text whose first number is a bound in words."""

SIGN = re.compile(r"^\D{0,60}?(?:[<>≤≥≠]|\\(?:leq?|geq?|lt|gt|neq?)\b)[^\d.]{0,12}\d")
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


@lru_cache(maxsize=64)
def is_bound(text: str, signs: bool = True) -> bool:
    """Whether an answer is a bound, a denial or a calculation in words, not a value: "less than 5", "not 5", "twice 5".

    Args:
        text: the answer.
        signs: whether < and similar signs count.
    """
    denied = re.match(
        r"\W*(?:definitely\s+|clearly\s+|certainly\s+)?(?:not|never|anything\s+but)\b|\W*不是", text, re.IGNORECASE
    )
    return bool(
        denied
        or VAGUE.search(text)
        or COMPARISON.search(text)
        or OPERATED.search(text)
        or (signs and SIGN.search(text))
    )


def without_bounds(text: str) -> str:
    """A text without the numbers that bound, deny or span; a difference (8-5) and the two sides of a ratio stay."""
    if len(text) > LONGEST:
        return text
    return RANGE.sub(_unless_falling, BOUNDED.sub(" ", text))


def _unless_falling(match: re.Match[str]) -> str:
    low, high = (re.sub(r"[^\d.]", "", match[name]) for name in ("low", "high"))
    values = [parse_number(digits.rstrip(".")) for digits in (low, high)]
    falling = values[0] and values[1] and values[0].value >= values[1].value
    return match[0] if falling else " "


ALTERNATIVE = re.compile(
    r"\b(?:or|possibly|perhaps|maybe|might|alternatively|otherwise|either|unless|except"
    r"|although|though|if|not\s+(?:entirely\s+)?sure|unsure|(?:could|may|can)\s+(?:also\s+)?be)\b|或|\(\s*-?\d[\d.]*\s+(?:with|without|if|when|including|excluding|counting|for)\b|(?<=[A-Z])\s?[和与及、]\s?(?=[A-Z])",
    re.IGNORECASE,
)
"""Words that put another answer beside one."""
CAUSE = re.compile(
    r"[,;:]?\s*\b(?:because|since|as\s+(?:the|there|we|it|they|this)|given\s+that|due\s+to|so\s+that|where|when|which)\b.*",
    re.DOTALL | re.IGNORECASE,
)
"""An explanation, in which alternatives are weighed and not offered."""


EXCEPT = re.compile(
    r"\b(?:all|every\w*|any\w*)\s+(?:\w+\s+){0,2}(?:except|but|other\s+than)\b|\bno\s+longer\b", re.IGNORECASE
)
"""An answer that is everything but what it names."""


def without_cause(said: str) -> str:
    """An announced answer without its explanation."""
    return CAUSE.sub("", said, count=1)


def offers_alternative(said: str) -> bool:
    """Whether an announced answer puts others beside itself: "42 (or 43)", "B, but A could also be right"."""
    if len(said) > 400 or ALTERNATIVE.search(said) is None:
        return False
    return ALTERNATIVE.search(without_cause(said)) is not None
