"""Parses numbers as people write them: 1,234.5, -3, 1/2, 2 1/2, twelve, 三十五, 45°, $4.50, 12 %, 3.2 x 10^4.

Only decimal digits are read, so a number's size is bounded by its text. All patterns are linear.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.values.units import UNIT

UNITS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
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
_UNITS, _PARTS = "|".join(UNITS), "|".join(sorted(PARTS, key=len, reverse=True))
FRACTION_WORDS = re.compile(rf"\b(?:({_UNITS}|a)[ -])?({_PARTS})\b", re.IGNORECASE)
DOZEN = re.compile(r"\b(?P<half>half\s+(?:a\s+)?)?(?:a\s|one\s)?dozen\b", re.IGNORECASE)

SPOKEN_SIGN = re.compile(r"(?:(?<![\w)] )\bminus|\bnegative) $", re.IGNORECASE)
"""A sign word before a number; between two numbers, "minus" subtracts."""
MIXED = re.compile(
    rf"\b(\d{{1,4}}|{_UNITS})\s+and\s+({_UNITS}|an?)[ -]({_PARTS})\b",
    re.IGNORECASE,
)
"""A mixed number in words: two and three quarters."""
HAN_FRACTION = re.compile(r"([一二两三四五六七八九十])分之([一二两三四五六七八九十])")

_WORD = "|".join([*UNITS, *TENS, *SCALES])
ANY_WORD = re.compile(rf"\b(?:{_WORD}|{_PARTS}|dozen)\b", re.IGNORECASE)
FIRST_WORD = re.compile(rf"(?:{_WORD}|{_PARTS}|a|an|minus|negative|dozen)\b", re.IGNORECASE)
"""What a number in words begins with."""
WORDS = re.compile(rf"\b(?:{_WORD})(?:(?:[ -]| and )(?:{_WORD}))*\b", re.IGNORECASE)
# 1,234,567.8 | 1 234 567 with a LaTeX thin space | 1234.5 | .5, then an exponent
DIGITS = r"(?:\d{1,2}(?:,\d{2})+,\d{3}(?!\d)|\d{1,3}(?:(?:,|\\,|,\\!|\{,\})\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_WORDS = r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred"
WRITTEN = rf"(?:[-$]{{0,2}}\d+(?:[.,]\d+)*%?|(?:{_WORDS})\b)"
"""Pattern of a number in digits or as a common English word."""

NUMBER = re.compile(
    rf"(?:(?P<sign>[-+−–])\s{{0,2}})?(?:[$€£¥]\s{{0,2}})?"
    rf"(?:(?P<whole>\d+)\s(?P<n>\d+)\s?/\s?(?P<d>\d+)(?![\d/])"
    rf"|(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?![\d/])"
    rf"|(?P<digits>{DIGITS})(?:\s?(?:[x×*·⋅]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{{?(?P<power>[-+−]?\d{{1,3}})\}}?"
    rf"|[eE](?P<exponent>[-+]?\d{{1,3}})(?![\w]))?)"
)
PERCENT = re.compile(r"\s?\\?%|\s?(?:per\s?cent|pct)\b")
SCALE = re.compile(
    r"\s{1,3}(hundred|thousand|million|billion|trillion|dozen|lakh|crore)\b|([万亿])|([MKB])(?![A-Za-z])"
)
SCALE_TEXT = re.compile(r"\\text\s?\{\s*(hundred|thousand|million|billion|trillion|dozen)\s*\}")
SPACED = re.compile(r"([-+$]{0,2}\d{1,3})((?: \d{3})+)(?=\.\d|\D|$)(?! ?\d)")
"""A number with spaces between thousands: 1 234 567."""
UNIT_POWER = re.compile(r"(?<=[a-zA-Z])\s?\^\s?\{?(?:[23]|-[123])\}?")
"""The power of a unit, as in cm^2."""
SCALE_VALUES = SCALES | {
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
    "万": 10**4,
    "亿": 10**8,
    "K": 10**3,
    "M": 10**6,
    "B": 10**9,
}
LETTERS = re.compile(r"[A-Za-z]{3}")
MINUS = str.maketrans("−–", "--")


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


@lru_cache(maxsize=64)
def find_numbers(text: str) -> tuple[Number, ...]:
    """Finds all numbers in a text from left to right: digits, number words and Chinese numerals.

    A hyphen is a sign only if nothing before it can be joined or subtracted from: 3-5 contains 3 and 5.
    """
    found = [_from_match(match, text) for match in NUMBER.finditer(text)]
    numbers = [number for number in found if number is not None]
    if not text.isascii():
        numbers += _han_numbers(text)
    if LETTERS.search(text):
        words = _word_numbers(text)
        numbers = [
            number
            for number in numbers
            if not any(word.start <= number.start and word.end > number.end for word in words)
        ]
        numbers += [word for word in words if not any(number.start <= word.start < number.end for number in numbers)]
    return tuple(sorted(numbers, key=lambda number: number.start) if len(numbers) > 1 else numbers)


@lru_cache(maxsize=4096)
def parse_number(text: str) -> Number | None:
    """The number that a short text states, with or without a unit: "12", "$4.50", "45 degrees", "seven"; otherwise
    None.
    """
    text = text.strip().rstrip(".。").strip("$ ")
    if len(text) > 100:
        return None
    if text[:1].isalpha() and text[0].isascii() and FIRST_WORD.match(text) is None:
        return None
    if "^" in text:
        text = UNIT_POWER.sub("", text)
    if "\\text" in text:
        text = SCALE_TEXT.sub(r" \1", text)
    if " " in text and (spaced := SPACED.match(text)):
        text = spaced[0].replace(" ", "") + text[spaced.end() :]
    numbers = find_numbers(text)
    if len(numbers) != 1 or text[: numbers[0].start].strip(" ~≈约+"):
        return None
    rest = text[numbers[0].end :]
    return numbers[0] if not rest or UNIT.fullmatch(rest) else None


EXPONENT = re.compile(
    r"\d\s?(?:(?:[x×*·⋅]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?(?P<power>[-+]?\d{1,3})\}?|[eE](?P<exponent>[-+]?\d{1,3}))"
)


def mantissa_exponent(text: str) -> int:
    """The power of ten of a number in scientific notation; 0 for any other text."""
    found = EXPONENT.search(text) if len(text) > 3 and ("1" in text or "e" in text.lower()) else None
    return int(found["power"] or found["exponent"]) if found else 0


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


def _from_match(match: re.Match[str], text: str) -> Number | None:
    start, end = match.span()
    before = text[start - 1] if start else ""
    sign = match["sign"]
    if sign and before and (before.isalnum() or before in ")]}%°$"):
        # 3-5 and x-5: a hyphen or a difference
        start, sign = start + 1, None
    elif not sign and ((before.isalpha() and before.isascii()) or before == "_"):
        return None  # part of a name: x2, R2D2
    elif before == "." and start > 1 and text[start - 2].isdigit():
        return None
    if end - start > 80:
        return None
    if match["whole"]:
        bottom = int(match["d"])
        value = Fraction(int(match["whole"])) + Fraction(int(match["n"]), bottom) if bottom else None
    elif match["top"]:
        bottom = int(match["bottom"])
        value = Fraction(int(match["top"]), bottom) if bottom else None
    else:
        whole, point, decimals = match["digits"].partition(".")
        if not whole.isdigit():
            whole = "".join(mark for mark in whole if mark.isdigit())
        value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals)) if point else Fraction(int(whole))
        if power := match["power"] or match["exponent"]:
            value *= Fraction(10) ** int(power.translate(MINUS))
    if value is None:
        return None
    if sign in ("-", "−", "–"):
        value = -value
    elif not sign and before == " " and (spoken := SPOKEN_SIGN.search(text, max(0, start - 12), start)):
        value, start = -value, spoken.start()
    if end == len(text):
        return Number(value, start, end)
    if text[end] == "s" and not text[end + 1 : end + 2].isalpha() and match["digits"]:
        return None  # the 1990s
    after = PERCENT.match(text, end)
    if scale := SCALE.match(text, end):
        value, end = value * SCALE_VALUES[scale[0].strip()], scale.end()
    return Number(value, start, after.end() if after else end, bool(after))


def _worded(word: str) -> Fraction:
    """The value of a whole number in digits or as a word; "a" is one."""
    return Fraction(word) if word.isdigit() else Fraction(UNITS.get(word.lower(), 1))


def _word_numbers(text: str) -> list[Number]:
    if ANY_WORD.search(text) is None:
        return []
    found = [
        Number(_worded(match[1]) + _worded(match[2]) / PARTS[match[3].lower()], *match.span())
        for match in MIXED.finditer(text)
    ]
    found += [Number(Fraction(6 if match["half"] else 12), *match.span()) for match in DOZEN.finditer(text)]
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
                current += UNITS.get(word, TENS.get(word, 0))
        value = Fraction(total + current)
        if sign := re.search(
            r"\b(?:minus|negative)\s$", text[max(0, match.start() - 10) : match.start()], re.IGNORECASE
        ):
            found.append(Number(-value, match.start() - len(sign[0]), match.end()))
        else:
            found.append(Number(value, *match.span()))
    return found


def _han_numbers(text: str) -> list[Number]:
    found = []
    for match in HAN_FRACTION.finditer(text):
        bottom, top = (10 if mark == "十" else HAN[mark] for mark in match.groups())
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


def plain(value: Fraction) -> str:
    """Formats a number in digits: 3, 0.25, 1/3."""
    if value.denominator == 1:
        return str(value.numerator)
    number = float(value) if abs(value) < 10**300 else 0.0
    return repr(number) if Fraction(repr(number)) == value else f"{value.numerator}/{value.denominator}"
