"""Units beside numbers: not converted, but two that are named and differ are not the same answer."""

import re

NAMED = re.compile(r"(?<![A-Za-z])\\(?:text|mathrm|mbox|rm)\s*\{\s*([^{}]{1,40}?)\s*\}(?:\s?\^\s?\{?([23])\}?)?")
PLAIN = re.compile(
    r"^[^A-Za-z\\]*\d[\d.,]*\s*\$?\s*([A-Za-z\u4e00-\u9fff°%²³]{1,20}(?:\s?/\s?[a-z]{1,6})?)(?:\s?\^\s?\{?([23])\}?)?\s*[.$]?\s*$"
)
SAME = {
    "cm": "centimeter", "centimetre": "centimeter", "mm": "millimeter", "km": "kilometer", "kilometre": "kilometer", "m": "meter", "metre": "meter", "kg": "kilogram",
    "g": "gram", "gm": "gram", "s": "second", "sec": "second", "min": "minute", "h": "hour", "hr": "hour", "l": "liter", "litre": "liter", "ml": "milliliter",
    "in": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "°": "degree", "deg": "degree", "percent": "%", "元": "yuan", "厘米": "centimeter", "米": "meter",
    "千克": "kilogram", "克": "gram", "度": "degree", "平方厘米": "centimeter2", "平方米": "meter2",
}  # fmt: skip


def unit_of(text: str) -> str | None:
    """The unit that a number's text names, in one spelling; None where it names none."""
    found = NAMED.findall(text)
    if len(found) == 1:
        name, power = found[0]
    elif plain := PLAIN.match(text.strip()):
        name, power = plain[1], plain[2] or ""
    else:
        return None
    name = re.sub(r"\s+|\.$", "", name.lower()).replace("²", "2").replace("³", "3")
    name = SAME.get(name, SAME.get(name.removesuffix("es"), SAME.get(name.removesuffix("s"), name.removesuffix("s"))))
    return name + power if name and name[0] not in "0123456789" else None


def units_differ(first: str, second: str) -> bool:
    """Whether both texts name a unit, and not the same."""
    units = unit_of(first), unit_of(second)
    return None not in units and units[0] != units[1]
