"""Reads answers of several numbers joined by marks: dates, times, ratios, ranges and scores.

They look like arithmetic (2010-2015, 4:30, 3:4:5, 3-2) and are none: their parts are compared, not their value.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<month>jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?"
_YEAR = r"(?P<year>\d{4})"
SPOKEN_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:the\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?(?:\s+{_YEAR})?",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?(?:\s+{_YEAR})?",
        rf"(?P<day>){_MONTH},?\s+{_YEAR}",
        r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日",
    )
)
DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})")
HOURS = {
    word: number
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=1
    )
}
SPOKEN_TIME = re.compile(rf"(?:a\s+)?(half|quarter)\s+(past|to)\s+({'|'.join(HOURS)}|\d{{1,2}})", re.IGNORECASE)
HAN_TIME = re.compile(r"^(\d{1,2})[时点]([0-5]?\d)分?$")
WHOLE_HOUR = re.compile(r"^(\d{1,2})\s*o'clock$")
EMBEDDED = re.compile(
    r"(?<![\d:])\d{1,2}:[0-5]\d(?![\d:])(?:\s*[ap]\.?m\b\.?)?|\d{1,2}[时点]\d{1,2}分|\d{4}年\d{1,2}月\d{1,2}日"
    r"|(?<!\d)\d{4}-\d{1,2}-\d{1,2}(?!\d)",
    re.IGNORECASE,
)
"""A time or a date among words."""
CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:([ap])\.?\s?m\.?|o'clock|h)?", re.IGNORECASE)
_NUMBER = r"[-+]?\s?(?:\\?\$|[€£¥])?\s?\d[\d,]*(?:\.\d+)?(?:\s?(?:\\?%|°))?"
JOINED = re.compile(
    rf"(?:from\s+|between\s+)?({_NUMBER}(?:\s*(?P<mark>-|–|—|~|～|:|\bto\b|\band\b|至|到)\s*{_NUMBER})"
    rf"(?:\s*(?P=mark)\s*{_NUMBER}){{0,6}})\s*(?P<unit>[A-Za-z%°\u4e00-\u9fff][^\d\n]{{0,20}})?",
    re.IGNORECASE,
)
PLAIN = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\[,;! ]|[{}]|\$(?![\d])|(?<=\d)\$")
LONGEST = 80


class Join(StrEnum):
    """What several numbers are together."""

    DATE = "date"
    TIME = "time"
    RATIO = "ratio"
    RANGE = "range"


@dataclass(frozen=True)
class Parts:
    """Several numbers that are one answer.

    Attributes:
        join: what they are together; a score such as 3-2 is a range.
        numbers: the numbers in order: year, month and day of a date; hour, minute and second of a time. None: not said.
        unit: the words behind them in lower case; "" if there are none.
    """

    join: Join
    numbers: tuple[Fraction | None, ...]
    unit: str = ""


@lru_cache(maxsize=4096)
def parts_of(text: str) -> Parts | None:
    """Reads an answer of several joined numbers; None if it is anything else."""
    if len(text) > LONGEST:
        return None
    text = PLAIN.sub(lambda match: f" {match[1]} " if match[1] else " ", text).strip().rstrip(".。").strip()
    return _date(text) or _time(text) or _joined(text)


def _date(text: str) -> Parts | None:
    for pattern in SPOKEN_DATES:
        if found := pattern.fullmatch(text):
            word = found["month"].lower()
            month = int(word) if word.isdigit() else MONTHS.index(word[:3]) + 1
            return Parts(Join.DATE, (_whole(found["year"]), Fraction(month), _whole(found["day"])))
    if found := DATE.fullmatch(text):
        first, middle, last = found[1], found[3], found[4]
        if len(first) == 4 or (found[2] != "." and len(last) != 4 and len(first) > 2):
            return Parts(Join.DATE, (_whole(first), _whole(middle), _whole(last)))
        # Day and month have no fixed order here; the unit keeps this date apart from those whose order is known.
        return Parts(Join.DATE, (_whole(first), _whole(middle), _whole(last)), "day or month first")
    return None


def _time(text: str) -> Parts | None:
    if spoken := SPOKEN_TIME.fullmatch(text):
        hour = HOURS.get(spoken[3].lower()) or int(spoken[3])
        minutes = (30 if spoken[1].lower() == "half" else 15) * (1 if spoken[2].lower() == "past" else -1)
        return Parts(Join.TIME, (*map(Fraction, divmod(60 * hour + minutes, 60)), Fraction(0)))
    text = WHOLE_HOUR.sub(r"\1:00", HAN_TIME.sub(r"\1:\2", text))
    if found := CLOCK.fullmatch(text):
        hour = int(found[1])
        if hour > 24:
            return None
        half = (found[4] or "").lower()
        if half:
            hour = hour % 12 + 12 * (half == "p")
        return Parts(Join.TIME, (Fraction(hour), Fraction(found[2]), Fraction(found[3] or 0)), half and "am or pm")
    return None


def _joined(text: str) -> Parts | None:
    found = JOINED.fullmatch(text)
    if found is None or (found["mark"].lower() == "and" and not text.lower().startswith("between")):
        return None
    mark = re.escape(found["mark"])
    if re.fullmatch(r"[a-z](?![a-z])", (found["unit"] or "").strip()) and text[found.start("unit") - 1] != " ":
        return None  # 2-5i
    numbers = [re.sub(r"[^\d.]", "", part) for part in re.split(rf"(?<=[\d%°])\s*{mark}", found[1])]
    if len(numbers) < 2 or not all(re.fullmatch(r"\d+(?:\.\d+)?", number) for number in numbers):
        return None
    join = Join.RATIO if found["mark"] == ":" else Join.RANGE
    return Parts(join, tuple(map(Fraction, numbers)), " ".join((found["unit"] or "").lower().split()))


def _whole(digits: str | None) -> Fraction | None:
    return Fraction(digits) if digits else None


def embedded_parts(text: str) -> list[str]:
    """The time or date that a text holds among words, if it holds one alone."""
    found = {match[0] for match in EMBEDDED.finditer(text)}
    return list(found) if len(found) == 1 else []


def same_parts(gold: Parts, found: Parts) -> bool | None:
    """Whether two such answers are the same; None if that cannot be told, as for 03/04/2021 beside 4 March 2021."""
    if (gold.join is Join.RATIO and found.join is Join.TIME) or (gold.join is Join.TIME and found.join is Join.RATIO):
        return None if _proportional(gold.numbers[:2], found.numbers[:2]) else False
    if gold.join is not found.join:
        return None
    if gold.join is Join.DATE:
        return _same_date(gold, found)
    if gold.join is Join.TIME:
        return _same_time(gold, found)
    if gold.join is Join.RATIO:
        return _proportional(gold.numbers, found.numbers)
    if gold.numbers != found.numbers:
        return False
    return True if gold.unit == found.unit or not (gold.unit and found.unit) else None


def _same_date(gold: Parts, found: Parts) -> bool | None:
    if gold.unit == found.unit:
        pairs = list(zip(gold.numbers, found.numbers, strict=True))
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            return None if gold.unit and set(gold.numbers) == set(found.numbers) else False
        return True if all(None not in pair or pair == (None, None) for pair in pairs) else None
    return None if {*gold.numbers} - {None} == {*found.numbers} - {None} else False


def _same_time(gold: Parts, found: Parts) -> bool | None:
    if gold.numbers == found.numbers:
        return True
    (hour, *rest), (other, *others) = gold.numbers, found.numbers
    if rest == others and gold.unit != found.unit and None not in (hour, other):
        # 4:30 PM beside 4:30: the half of the day is not said
        return None if (hour or 0) % 12 == (other or 0) % 12 else False
    if not gold.unit and not found.unit and _proportional(gold.numbers[:2], found.numbers[:2]):
        return None  # 1:10 and 2:20 may be ratios
    return False


def _proportional(first: tuple[Fraction | None, ...], second: tuple[Fraction | None, ...]) -> bool:
    pairs = [(one or Fraction(0), other or Fraction(0)) for one, other in zip(first, second, strict=False)]
    return len(first) == len(second) and all(one * pairs[0][1] == other * pairs[0][0] for one, other in pairs)
