"""Recognizes units beside numbers and compares them. Nothing is converted."""

import re
from functools import lru_cache

SHORT_UNITS = (
    "mm|cm|dm|km|nm|kg|mg|lbs?|oz|sec|mins?|hrs?|ms|yrs?|ft|in|yds?|mi|mph|kmh|rpm|fps|Hz|kHz|MHz|GHz|Pa|kPa|MPa|atm|mol|eV|kJ|kW|kWh|mW|MW|mA|mV|kV|mL|ml|cl|cm3|"
    "dB|USD|EUR|CNY|RMB|px|rad|deg|sq|cu|pcs?|pts?|am|pm|cal|kcal|Mbps|GB|MB|KB|TB"
)
ATTACHED = re.compile(
    rf"\d(?!(?:{SHORT_UNITS}|[mgshlLNJWVACFKTMBkD]|st|nd|rd|th)(?![A-Za-z]))[A-Za-z]{{1,3}}(?![A-Za-z])"
)
"""A number with a factor of one to three letters: 2ab."""
_JOINING = "of|in|on|to|at|by|per|a|an|the|each|is"
# Words as long as a unit's name that are mathematics or a bound.
_NO_UNIT = (
    "pi|theta|alpha|beta|gamma|delta|lambda|sigma|omega|phi|infty|infinity|sqrt|log|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|exp|max|min|more|less|least|most|"
    "fewer|plus|minus|times|over|under|above|below|squared|cubed|factorial|thousands?|millions?|billions?|hundreds?|dozens?|half|halves|mod|divided|multiplied"
)
UNIT = re.compile(
    r"(?:(?:\\[,;! ]|[\s~])*(?:"
    r"\\?%|[°º/.]|(?<=[A-Za-z])[²³]|\^\s?\{?\s?(?:\\circ|°)\s?\}?|\\(?:circ|degree)(?![a-zA-Z])"
    r"|(?!以[上下]|[也没不])[\u4e00-\u9fff]"
    r"|\\(?:text|mathrm|mbox|textbf|rm)\s?\{(?!\s*(?:[eikxyn]|(?:thousand|million|billion|hundred"
    r"|dozen)s?\b[^{}]*)\s*\})[^{}]{0,60}\}|[kMm]?(?:\\Omega(?![a-zA-Z])|Ω)"
    rf"|(?<![A-Za-z])(?:{SHORT_UNITS})(?![A-Za-z])"
    rf"|(?<=[\s/°}}])(?:[mgshlLNJWVACFKT]|{_JOINING}|[a-z][aeiou][a-z]|[a-z]{{2}}[aeiou])(?![A-Za-z])"
    rf"|(?<![A-Za-z\\])(?!(?:{_NO_UNIT})(?![A-Za-z]))[A-Za-z]{{4,20}}(?![A-Za-z])"
    r"))*\s*"
)
"""What may follow the number of a short answer.

A single letter right after the number is a symbol: 5 m is a length, 5m a product.
"""

_PREFIXES = {"k": "kilo", "M": "mega", "G": "giga", "c": "centi", "d": "deci", "m": "milli", "μ": "micro", "n": "nano"}
_BASES = {
    "m": "meter metre",
    "g": "gram gramme",
    "s": "second",
    "L": "liter litre",
    "l": "liter",
    "V": "volt",
    "A": "ampere amp",
    "W": "watt",
    "J": "joule",
    "N": "newton",
    "Pa": "pascal",
    "Hz": "hertz",
    "Ω": "ohm",
    "eV": "electronvolt",
    "mol": "mole",
    "B": "byte",
}
"""Symbols of units that take prefixes, and their names; the first name is the canonical one."""
_OTHERS = {
    "inch": 'in inches "',
    "foot": "ft feet '",
    "yard": "yd",
    "mile": "mi",
    "pound": "lb lbs",
    "ounce": "oz",
    "ton": "t tonne",
    "second": "sec secs 秒",
    "minute": "min mins 分钟",
    "hour": "h hr hrs 小时",
    "year": "yr yrs 岁",
    "celsius": "°C C degreecelsius",
    "fahrenheit": "°F F degreefahrenheit",
    "kelvin": "K",
    "radian": "rad",
    "%": "percent pct percent",
    "dollar": "$ usd buck",
    "euro": "€ eur",
    "sterling": "£ gbp poundsterling",
    "yuan": "¥ 元 rmb cny",
    "cent": "¢",
    "mile/hour": "mph",
    "kilometer/hour": "kmh kph kmph",
    "meter/second": "mps",
    "day": "天",
    "centimeter": "厘米",
    "meter": "米",
    "kilogram": "千克 公斤 kilo kgs",
    "gram": "克 gm",
    "kilometer": "公里 千米",
    "degree": "° deg degrees 度",
    "centimeter^2": "平方厘米 sqcm",
    "meter^2": "平方米 sqm",
    "foot^2": "sqft",
    "unit": "units",
}
SYMBOLS = {
    prefix + symbol: prefix_name + names.split()[0]
    for symbol, names in _BASES.items()
    for prefix, prefix_name in [("", ""), *_PREFIXES.items()]
}
NAMES = (
    {
        prefix + name: prefix + names.split()[0]
        for names in _BASES.values()
        for name in names.split()
        for prefix in ("", *_PREFIXES.values())
    }
    | {name: unit for unit, names in _OTHERS.items() for name in (unit, *names.split())}
    | {"kilohm": "kiloohm"}
)
WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textbf|rm)\s*\{([^{}]{0,60})\}|\\[,;! ]|~|\\(?=[%$])")
NAMED = re.compile(r"(?<![A-Za-z])\\(?:text|mathrm|mbox|rm)\s*\{\s*~?([^{}]{1,40}?)\s*\}(?:\s?\^\s?\{?([23])\}?)?")
NUMBER = re.compile(r"\d[\d.,]*(?:\s\d+/\d+|/\d+)?(?:\s?(?:[x×*]|\\times)\s?10\s?\^\s?\{?-?\d+\}?|[eE][-+]?\d+)?")
SPELLED = (
    (re.compile(r"\\Omega(?![a-z])|\bohms?\b"), "Ω"),
    (re.compile(r"\^?\s?\{?\s?\\(?:circ|degree)\s?\}?"), "°"),
    (re.compile(r"(?:°|\bdegrees?)\s*(?:celsius|C\b)", re.IGNORECASE), " celsius"),
    (re.compile(r"(?:°|\bdegrees?)\s*(?:fahrenheit|F\b)", re.IGNORECASE), " fahrenheit"),
)
FACTOR = re.compile(
    r"(?P<low>square|sq\.?|cubic|cu\.?)?\s*(?P<name>[A-Za-zΩμ°\u4e00-\u9fff%$€£¥¢\"']+(?:\s(?:celsius|fahrenheit))?)\.?"
    r"\s?(?:\^?\s?\{?(?P<power>-?[123])\}?|(?P<squared>squared|cubed))?"
)
SCALE = re.compile(r"\b(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore)\b|(?<=\d)[kMB]\b")
MOST_WORDS = 3


@lru_cache(maxsize=4096)
def unit_of(text: str) -> str | None:
    """The unit that a number's text names, in one spelling such as "meter/second^2"; None if it names none."""
    if len(text) > 200:
        return None
    named = NAMED.findall(text)
    if len(named) == 1 and len(NUMBER.findall(text)) > 1 + bool(named[0][1]):
        return _canonical(named[0][0] + (f"^{named[0][1]}" if named[0][1] else ""))
    text = WRAPPED.sub(lambda match: f" {match[1]} " if match[1] else " ", text.replace("~", " "))
    for pattern, sign in SPELLED:
        text = pattern.sub(sign, text)
    found = NUMBER.search(text)
    if found is None or re.search(r"[A-Za-z]", text[: found.start()]):
        return None
    behind = text[found.end() :]
    money = text.count("$") == 1 and text[: found.start()].rstrip().endswith("$")
    if money or (prefix := re.search(r"[€£¥]", text[: found.start()])):
        return NAMES["$" if money or prefix is None else prefix[0]]
    behind = SCALE.sub(" ", behind).replace("$", " ").strip(" .,;()[]").removesuffix(" old")
    return _canonical(behind) if behind and len(behind.split()) <= MOST_WORDS + 2 else None


def _canonical(words: str) -> str | None:
    """A unit's words in one spelling; None for what is no unit."""
    words = re.sub(r"\s+per\s+|(?<=\w)\s?/\s?(?=\w)", " / ", " ".join(words.split()))
    words = re.sub(r"\bms\^\{?-1\}?", "m / s", words)
    above: list[str] = []
    below: list[str] = []
    place, side = 0, above
    while place < len(words):
        if words[place] in " *·":
            place += 1
        elif words[place] == "/":
            place, side = place + 1, below
        elif (found := FACTOR.match(words, place)) is None or found.end() == place:
            return None
        else:
            place = found.end()
            power = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}.get((found["low"] or "").strip("."), 0)
            power = power or {"squared": 2, "cubed": 3}.get(found["squared"] or "", 0) or int(found["power"] or 1)
            name = _named(found["name"])
            (below if power < 0 else side).append(name if abs(power) == 1 else f"{name}^{abs(power)}")
    return " ".join(above) + (f"/{' '.join(below)}" if below else "") or None


def _named(name: str) -> str:
    bare = name.replace(" ", "")
    low = bare.lower()
    for spelling in (bare, low, low.removesuffix("s"), low.removesuffix("es")):
        if spelling in NAMES:
            return NAMES[spelling]
        if spelling in SYMBOLS and (spelling == bare or len(spelling) > 1):
            return SYMBOLS[spelling]
    return low.removesuffix("s")


COUNTED = frozenset((*NAMES.values(), *SYMBOLS.values()))


def units_differ(first: str, second: str) -> bool:
    """Whether both texts name a unit and the units differ. Different words for what is counted may share one."""
    one, other = unit_of(first), unit_of(second)
    if (
        one is None
        or other is None
        or one == other
        or {one, other}
        <= {"degree", "celsius", "fahrenheit"} - {"celsius" if "fahrenheit" in (one, other) else "fahrenheit"}
    ):
        return False
    words = set(one.split()), set(other.split())
    return not (words[0] & words[1]) or bool({one, other} & COUNTED)
