"""Reads numbers in words: twelve, two and three quarters, 三十五, XIV."""

import re
from dataclasses import dataclass
from fractions import Fraction

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
ONES = {word: number for number, word in enumerate(_BELOW_TWENTY.split())}
TENS = {
    word: 10 * number
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
HAN = {"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
PARTS = {"half": 2, "halves": 2} | {
    name + ending: number
    for name, number in zip(
        ("third", "quarter", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "twelfth", "twentieth"),
        (3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 20),
        strict=True,
    )
    for ending in ("", "s")
}
_ONES, _PARTS = "|".join(ONES), "|".join(sorted(PARTS, key=len, reverse=True))
FRACTION_WORDS = re.compile(rf"\b(?:({_ONES}|a)[ -])?({_PARTS})\b", re.IGNORECASE)
DOZEN = re.compile(rf"\b(?P<half>half\s+(?:a\s+)?)?(?:a\s|(?P<count>{_ONES})\s)?dozen\b", re.IGNORECASE)


MIXED = re.compile(
    rf"\b(\d{{1,4}}|{_ONES})\s+and\s+({_ONES}|an?)[ -]({_PARTS})\b",
    re.IGNORECASE,
)
"""A mixed number in words: two and three quarters."""
HAN_FRACTION = re.compile(r"([一二两三四五六七八九十])分之([一二两三四五六七八九十])|一半")

_WORD = "|".join([*ONES, *TENS, *SCALES])
ANY_WORD = re.compile(rf"\b(?:{_WORD}|{_PARTS}|dozen)\b", re.IGNORECASE)
FIRST_WORD = re.compile(rf"(?:{_WORD}|{_PARTS}|a|an|minus|negative|dozen)\b", re.IGNORECASE)
"""What a number in words begins with."""
WORDS = re.compile(rf"\b(?:{_WORD})(?:(?:[ -]| and )(?:{_WORD}))*\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number in a text.

    Attributes:
        value: exact value.
        start: index of its first character.
        end: index after its last character.
        percent: whether a percent sign follows.
    """

    value: Fraction
    start: int
    end: int
    percent: bool = False


def _worded(word: str) -> Fraction:
    """The value of a whole number in digits or as a word; "a" is one."""
    return Fraction(word) if word.isdigit() else Fraction(ONES.get(word.lower(), 1))


def word_numbers(text: str) -> list[Number]:
    """Finds the numbers in English words: "twelve", "two and three quarters", "half a dozen"."""
    if ANY_WORD.search(text) is None:
        return []
    found = [
        Number(_worded(match[1]) + _worded(match[2]) / PARTS[match[3].lower()], *match.span())
        for match in MIXED.finditer(text)
    ]
    found += [
        Number(6 * (1 if match["half"] else 2) * _worded(match["count"] or "a"), *match.span())
        for match in DOZEN.finditer(text)
    ]
    for match in FRACTION_WORDS.finditer(text):
        if any(number.start <= match.start() < number.end for number in found):
            continue
        # "third" and "fifth" alone are ordinals, "quarter" a coin.
        if match[1] or match[2].lower() == "half":
            found.append(Number(_worded(match[1] or "a") / PARTS[match[2].lower()], *match.span()))
    taken = [(number.start, number.end) for number in found]
    for match in WORDS.finditer(text):
        if any(start <= match.start() < end for start, end in taken):
            continue
        total, current = 0, 0
        for word in re.split(r"[ -]", match[0].lower()):
            if word in ("hundred",):
                current = max(current, 1) * 100
            elif word in SCALES:
                total, current = total + max(current, 1) * SCALES[word], 0
            elif word != "and":
                current += ONES.get(word, TENS.get(word, 0))
        value = Fraction(total + current)
        if sign := re.search(
            r"\b(?:minus|negative)\s$", text[max(0, match.start() - 10) : match.start()], re.IGNORECASE
        ):
            found.append(Number(-value, match.start() - len(sign[0]), match.end()))
        else:
            found.append(Number(value, *match.span()))
    return found


def han_numbers(text: str) -> list[Number]:
    """Finds the numbers in Chinese numerals: 三十五, 四分之三."""
    found = []
    for match in HAN_FRACTION.finditer(text):
        bottom, top = (10 if mark == "十" else HAN[mark] for mark in (match[1] or "二", match[2] or "一"))
        found.append(Number(Fraction(top, bottom), *match.span()))
    for match in re.finditer(r"负?[零〇一二两三四五六七八九十百千万亿]{1,12}", text):
        if match[0].lstrip("负")[0] in "万亿" or (match.start() and text[match.start() - 1].isdigit()):
            continue  # a scale after digits, or not a number
        if any(number.start <= match.start() < number.end for number in found[:20]):
            continue
        marks = match[0].lstrip("负")
        total, section, digit, digits = 0, 0, 0, ""
        for mark in marks:
            if mark in "万亿":
                section += digit
                total = (total + section) * 10**8 if mark == "亿" else total + section * 10**4
                section = digit = 0
            elif mark in HAN_SCALES:
                section, digit = section + (digit or 1) * HAN_SCALES[mark], 0
            else:
                digit, digits = HAN[mark], digits + str(HAN[mark])
        whole = int(digits) if len(digits) == len(marks) else total + section + digit
        found.append(Number(Fraction(-whole if match[0].startswith("负") else whole), *match.span()))
    return found


ROMAN = re.compile(r"(?=[IVXLC]{2})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")


def roman(text: str) -> Number | None:
    """The number below 100 that a text of two or more Roman numerals is; otherwise None."""
    found = ROMAN.fullmatch(text)
    if found is None:
        return None
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
    digits = [values[mark] for mark in text]
    total = sum(-one if one < other else one for one, other in zip(digits, [*digits[1:], 0], strict=True))
    return Number(Fraction(total), 0, len(text))
