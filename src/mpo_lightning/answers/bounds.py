"""Numbers that bound an answer instead of being it: "less than 5", "4 or 5", "between 4 and 5", "not 5".

They are taken out of a text before its number is read, so that "the number of bars below 40 is 3" says 3 and "more than 5 people" says nothing.
"""

import re

_MORE = r"(?:more|less|fewer|greater|higher|lower|larger|smaller|above|below|older|younger)"
_WORD = r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred"
NUMBER = rf"(?:[-$]{{0,2}}\d+(?:[.,]\d+)*%?|(?:{_WORD})\b)"
_BOUND = r"(?:more|less|\w{2,12}er)\s+than|at\s+(?:most|least)|up\s+to|over|under|above|below|exceed(?:s|ing)?|not(?:\s+be)?"
_HAN = "大于|小于|至少|至多|不超过|超过|不到|少于|多于|最多|最少|高于|低于|不是"

COMPARISON = re.compile(
    r"^\D{0,60}?(?:\b(?:(?:less|more|fewer|greater|larger|smaller|higher|lower|other)\s+than|at\s+(?:most|least)|up\s+to|between|over|under|above|below)\b|"
    rf"大于|小于|至少|至多|不超过)[^\d.]{{0,12}}\d|^\D{{0,60}}?[\d.,]+\s*(?:\w+\s+)?or\s+{_MORE}\b",
    re.IGNORECASE,
)
"""The first number of a text is a bound."""

SIGN = re.compile(r"^\D{0,60}?(?:[<>≤≥]|\\(?:leq?|geq?|lt|gt)\b)[^\d.]{0,12}\d")
"""The same in signs."""

OPERATED = re.compile(
    r"\b(?:twice|double|triple|(?:half|third|quarter|square|cube|root|percent|multiple)\s+of)\s+(?:the\s+)?\$?\d[\d.,]*(?!.*(?:\bis\b|[=≈]))|^\W*\$?\d[\d.,]*\s+(?:more|less|fewer|greater|higher|lower)\s+than\s+\$?\d(?!.*(?:\bis\b|[=≈]))|\d\s*(?:squared|cubed|factorial|times\s+(?:as|the|more))\b(?!.*(?:\bis\b|[=≈]))",
    re.IGNORECASE | re.DOTALL,
)
"""A number that a word calculates with."""
BOUNDED = re.compile(
    rf"(?:(?:\b(?:{_BOUND})|n't)\s+(?:or\s+equal\s+to\s+)?(?:a\s+|the\s+)?|(?:{_HAN})\s?){NUMBER}"
    rf"|\bbetween\s+{NUMBER}\s+(?:and|to)\s+{NUMBER}"
    rf"|{NUMBER}\s+(?:\w+\s+)?or\s+{_MORE}\b|\d+\s?(?:以上|以下)",
    re.IGNORECASE,
)
RANGE = re.compile(
    rf"(?<![\d.=+*/^-])(?<![=+*/^-]\s)(?P<low>{NUMBER})\s?(?:to|or|~|～|到|至|或|[-–])\s?(?P<high>{NUMBER})(?!\s?[=≈*/+^]|[\d.]*\d)",
    re.IGNORECASE,
)
LONGEST = 4000


def is_bound(text: str, signs: bool = True) -> bool:
    """Whether an answer is a bound, a denial or a calculation in words instead of a value: "less than 5", "not 5", "twice 5".

    Args:
        text: the answer.
        signs: whether < and the like count.
    """
    denied = re.match(r"\W*(?:definitely\s+|clearly\s+|certainly\s+)?(?:not|never|anything\s+but)\b|\W*不是", text, re.IGNORECASE)
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
