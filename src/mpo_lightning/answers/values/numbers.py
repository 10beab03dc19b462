"""Parses numbers as people write them: 1,234.5, -3, 1/2, 2 1/2, twelve, 三十五, 45°, $4.50, 12 %, 3.2 x 10^4.

Only decimal digits are read, so a number's size is bounded by its text. All patterns are linear.
"""

import re
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.values.number_words import FIRST_WORD, SCALES, Number, han_numbers, word_numbers
from mpo_lightning.answers.values.units import UNIT

SPOKEN_SIGN = re.compile(r"(?:(?<![\w)] )\bminus|\bnegative) $", re.IGNORECASE)
"""A sign word before a number; between two numbers, "minus" subtracts."""
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


@lru_cache(maxsize=64)
def find_numbers(text: str) -> tuple[Number, ...]:
    """Finds all numbers in a text from left to right: digits, number words and Chinese numerals.

    A hyphen is a sign only if nothing before it can be joined or subtracted from: 3-5 contains 3 and 5.
    """
    found = [_from_match(match, text) for match in NUMBER.finditer(text)]
    numbers = [number for number in found if number is not None]
    if not text.isascii():
        numbers += han_numbers(text)
    if LETTERS.search(text):
        words = word_numbers(text)
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
    if usual := USUAL.fullmatch(text):
        sign, whole, decimals = usual.groups(default="")
        value = int(sign + whole.replace(",", "") + decimals)
        return Number(Fraction(value, 10 ** len(decimals)) if decimals else Fraction(value), 0, len(text))
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


USUAL = re.compile(r"(-?)(\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.(\d{1,15}))?")
"""The most usual number, read faster than by the patterns above."""
TERMINATING = 10**15
"""What the denominators of decimals divide that a float holds digit for digit."""


def plain(value: Fraction) -> str:
    """Formats a number in digits: 3, 0.25, 1/3."""
    if value.denominator == 1:
        return str(value.numerator)
    if TERMINATING % value.denominator == 0 and abs(value.numerator) < TERMINATING:
        return repr(float(value))
    number = float(value) if abs(value) < 10**300 else 0.0
    return repr(number) if Fraction(repr(number)) == value else f"{value.numerator}/{value.denominator}"
