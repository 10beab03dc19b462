"""Words that keep a number or an option from being the answer: denials, alternatives, asides.

They matter most where the checker labels training pairs: "less than 5", "not 5" and "5 or 6" hold a 5, and none of them says 5.
"""

import re

DENIAL = re.compile(
    r"\b(?:not|never|no\s+longer|cannot|can't|neither|nor|incorrect|wrong|false|eliminated?|unlike|rather\s+than|instead\s+of|anything\s+but|nothing\s+to\s+do\s+with|"
    r"no\s+evidence\s+(?:for|of)|(?:is|are|was|were|do|does|did|has|have|had|could|would|should)n't)\b|不是|不|并非|排除",
    re.IGNORECASE,
)
"""In front of what is denied."""

DENIED_BEHIND = re.compile(
    r"[\s)）\]:.\"'*]{0,4}(?:(?:is|are|was|seems|looks|must\s+be|can\s+be|could\s+be|would\s+be)\s+)?(?:clearly\s+|also\s+|definitely\s+|therefore\s+|obviously\s+)?"
    r"(?:not\b|wrong\b|incorrect\b|false\b|impossible\b|ruled\s+out|eliminated\b|excluded\b|out\s+of\s+the\s+question|isn't\b|cannot\b|can't\b|不对|错误|不正确|不成立|被排除|是错)",
    re.IGNORECASE,
)
"""Behind it."""

ASIDE = re.compile(
    r"(?<=[^\s\\])\s*(?:\((?=[^()]{0,200}[A-Za-z]{2})[^()]{0,200}\)|[,;]?\s+(?:not|rather\s+than|instead\s+of|and\s+not|but\s+not|since|because|as\s+(?:the|there|we|it|shown)|given\s+that|which(?!\s+(?:is|equals)\s+[-$\d.,]+\s?\S{0,12}$)|i\.e|that\s+is|namely)\b.*)\s*[.。]?\s*$",
    re.IGNORECASE | re.DOTALL,
)
"""What explains an answer behind it."""

EITHER = re.compile(r"(?<![A-Za-z])[(（]?[A-H][)）]?\s*(?:or|或者?|/)\s*[(（]?[A-H][)）]?(?![A-Za-z])")

ANSWER_NO = re.compile(
    r"\W*$|\s*[,.;:!)\"'*—–\n-]|\s+(?:it|there|they|he|she|this|that|these|because|since|we|i|you|not|as)\b", re.IGNORECASE
)
"""Behind a "no" that is an answer; in front of a noun it only counts ("no other bar")."""


def is_denied(before: str, behind: str = "") -> bool:
    """Whether something is denied by the words in front of it ("not", without a "but" behind that) or right behind it."""
    last = re.split(r"(?<!anything )\bbut\b|[.;,，。；]", before)[-1]
    return bool(DENIAL.search(last) or DENIED_BEHIND.match(behind))


def without_aside(text: str) -> str:
    """An answer without what explains it: "5, not 6", "8 (4 on each side)"."""
    return ASIDE.sub("", text, count=1) if len(text) <= 600 else text


def is_answer_no(behind: str) -> bool:
    """Whether a "no" is an answer, by what follows it."""
    return ANSWER_NO.match(behind) is not None
