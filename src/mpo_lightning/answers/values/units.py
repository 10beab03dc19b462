"""Recognizes units beside numbers and compares them. Nothing is converted."""

import re

_SHORT = (
    "mm|cm|dm|km|nm|kg|mg|lbs?|oz|sec|mins?|hrs?|ms|yrs?|ft|in|yds?|mi|mph|kmh|rpm|fps|Hz|kHz|MHz|GHz|Pa|kPa|MPa|atm|mol|eV|kJ|kW|kWh|mW|MW|mA|mV|kV|mL|ml|cl|cm3|"
    "dB|USD|EUR|CNY|RMB|px|rad|deg|sq|cu|pcs?|pts?|am|pm|cal|kcal|Mbps|GB|MB|KB|TB"
)
ATTACHED = re.compile(rf"\d(?!(?:{_SHORT}|[mgshlLNJWVACFKTMBkD]|st|nd|rd|th)(?![A-Za-z]))[A-Za-z]{{1,3}}(?![A-Za-z])")
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
    r"|(?!以[上下])[\u4e00-\u9fff]"
    r"|\\(?:text|mathrm|mbox|textbf|rm)\s?\{(?!\s*(?:[eikxyn]|(?:thousand|million|billion|hundred"
    r"|dozen)s?\b[^{}]*)\s*\})[^{}]{0,60}\}|\\Omega(?![a-zA-Z])"
    rf"|(?<![A-Za-z])(?:{_SHORT})(?![A-Za-z])"
    rf"|(?<=[\s/°}}])(?:[mgshlLNJWVACFKT]|{_JOINING}|[a-z][aeiou][a-z]|[a-z]{{2}}[aeiou])(?![A-Za-z])"
    rf"|(?<![A-Za-z\\])(?!(?:{_NO_UNIT})(?![A-Za-z]))[A-Za-z]{{4,20}}(?![A-Za-z])"
    r"))*\s*"
)
"""What may follow the number of a short answer.

A single letter right after the number is a symbol: 5 m is a length, 5m a product.
"""

NAMED = re.compile(r"(?<![A-Za-z])\\(?:text|mathrm|mbox|rm)\s*\{\s*([^{}]{1,40}?)\s*\}(?:\s?\^\s?\{?([23])\}?)?")
PLAIN = re.compile(
    r"^[^A-Za-z\\]*\d[\d.,]*\s*\$?\s*([A-Za-z\u4e00-\u9fff°%²³]{1,20}(?:\s?/\s?[a-z]{1,6})?)(?:\s?\^\s?\{?([23])\}?)?\s*[.$]?\s*$"
)
SAME = {
    "cm": "centimeter",
    "centimetre": "centimeter",
    "mm": "millimeter",
    "km": "kilometer",
    "kilometre": "kilometer",
    "m": "meter",
    "metre": "meter",
    "kg": "kilogram",
    "g": "gram",
    "gm": "gram",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "l": "liter",
    "litre": "liter",
    "ml": "milliliter",
    "in": "inch",
    "ft": "foot",
    "feet": "foot",
    "yd": "yard",
    "mi": "mile",
    "°": "degree",
    "deg": "degree",
    "percent": "%",
    "元": "yuan",
    "厘米": "centimeter",
    "米": "meter",
    "千克": "kilogram",
    "克": "gram",
    "度": "degree",
    "平方厘米": "centimeter2",
    "平方米": "meter2",
}


def unit_of(text: str) -> str | None:
    """The unit that a number's text names, in one spelling; None if it names none."""
    found = NAMED.findall(text)
    if len(found) == 1:
        name, power = found[0]
    elif plain := PLAIN.match(text.strip()):
        name, power = plain[1], plain[2] or ""
    else:
        return None
    name = re.sub(r"\s+|\.$", "", name.lower()).replace("²", "2").replace("³", "3")
    for word, two_or_three in (("square", "2"), ("cubic", "3")):
        if name.startswith(word) and len(name) > len(word):
            name, power = name.removeprefix(word), two_or_three
    name = SAME.get(name, SAME.get(name.removesuffix("es"), SAME.get(name.removesuffix("s"), name.removesuffix("s"))))
    return name + power if name and name[0] not in "0123456789" else None


def units_differ(first: str, second: str) -> bool:
    """Whether both texts name a unit and the units differ."""
    units = unit_of(first), unit_of(second)
    return None not in units and units[0] != units[1]
