"""Finds the number that an answer means among those it contains."""

import re
from fractions import Fraction

from mpo_lightning.answers.mathematics.evaluate import value_at, values
from mpo_lightning.answers.mathematics.expressions import parse
from mpo_lightning.answers.response.announcements import boxes
from mpo_lightning.answers.response.extract import REMAINING, sentences
from mpo_lightning.answers.response.qualifiers import OPERATED, is_bound, without_aside, without_bounds
from mpo_lightning.answers.response.readings import COPULA
from mpo_lightning.answers.response.readings import FORMULA as FORMULAS
from mpo_lightning.answers.values.number_words import Number
from mpo_lightning.answers.values.numbers import UNIT_POWER, WRITTEN, find_numbers, parse_number
from mpo_lightning.answers.values.units import ATTACHED, UNIT

NONE = re.compile(
    r"\bthere\s+(?:are|is|were|was)\s+(?:no\b|none\b)|^\W*(?:none|nothing|nil|没有|no\s+(?!ideas?\b|answers?\b|clues?\b)[a-z]+s\W*$)|aren't\s+any\b|^no\s+\w+\s+(?:are|is|were|was)\b",
    re.IGNORECASE,
)
SPAN = re.compile(r"\d\s*(?:to|or|~|–|-|:)\s*\d[\d.,]*[^\d]{0,30}$")
"""A range; an answer that is a range is not a number."""
SEVERAL = re.compile(r"%\s+of\s+\d|\b[a-z]\s?=[^=]{1,20}[,;]\s*(?:and\s+)?[a-z]\s?=")
"""A share of a number, or values of several unknowns."""
FORMULA = re.compile(
    r"√|π|\\(?:pi|sqrt|log|ln|binom|cdot|times|infty|alpha|beta|theta|lambda|sin|cos|tan|lfloor|lceil)(?![a-zA-Z])"
    r"|\d\s?!|\d[²³]|\^(?!\s?\{?\s?(?:\\circ|°))|(?<![A-Za-z])sqrt|"
    rf"\d\s?[xyznabk](?![A-Za-z])|{ATTACHED.pattern}|\d\s*[-+*/]\s*[a-z](?![a-z])|(?<![A-Za-z'])[a-z]\s*[-+*/]\s*\d"
    rf"|(?<![A-Za-z])(?:log|ln|sin|cos|tan)\s*\(?\d|\\frac|[\d)}}]\s[*/+]\s[\d({{]"
)
"""Mathematics whose digits are not its value."""
LETTERED = re.compile(rf"√|π|\\pi|\d\s?!|\d\s?[xyznabk](?![A-Za-z])|{ATTACHED.pattern}")
"""A number with a factor that looks like a unit."""

OUT_OF = re.compile(
    r"(?:^|(?<=\s))out\s+of\s+(?:the\s+|these\s+|all\s+)?\S+|(?<=\s)of\s+(?:the|these|all"
    rf"|all\s+the)\s+{WRITTEN}(?=\s+[a-z])|(?<=\d\s)of\s+{WRITTEN}(?=\s+[a-z]|\W*$)",
    re.IGNORECASE,
)
"""The total that a count is part of."""
YEAR = re.compile(
    r"(?<!is )(?<!was )(?<!were )\b(?:in|since|by|until|from)\s+(?:the\s+year\s+)?(?=(?:1[5-9]|20)\d\d\b(?![,.]\d))",
    re.IGNORECASE,
)
"""The year of a count, unless the year is the answer ("was in 2015")."""
BEHIND = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[=≈]\s*(?=[-+$]?\s?[\d.])|\b(?:that|which)\s+is\b(?=\D{0,10}\d)",
        r"\b(?:leaves|leaving|gives|giving|makes|making|yields|yielding|we\s+get)\b(?=\D{0,25}\d)",
        r"\b(?:is|are|was|were|be|equals|total(?:s|ing)?|of)\b(?=\D{0,25}\d)",
    )
)
"""Text before a result."""
JOINED = re.compile(r"\s*(?:[a-z]+\s+){0,2}(?:and|or|&)\s+[-$]?\d")
IN_BRACKETS = re.compile(r"^([^()]{0,60}\S)\s+\(([^()]{1,200})\)\W*$")
SUM_BEHIND = re.compile(r"(?<=\d)\s\(\s?\d+(?:\s?[-+*/×]\s?\d+)+\s?\)(?=\W*$)")


def number_in(text: str) -> Number | None:
    """The number that an answer means: the whole text, the value of a formula, the number after the last "=" or "is",
    or the only number. None if there are several.
    """
    whole = parse_number(text)
    if whole is not None and (
        text[-1:].isdigit() or not (LETTERED.search(text) or (" or " in text and is_bound(text)))
    ):
        return whole
    for _, _, inner in boxes(text)[-1:]:
        return number_in(inner)
    if (first := sentences(text)[:1]) and len(first[0]) < len(text) and (whole := parse_number(first[0])) is not None:
        return None if LETTERED.search(first[0]) else whole
    if OPERATED.search(text):
        return None
    text = without_bounds(text)
    if is_bound(text):
        return None
    text = without_aside(text)
    if (bracketed := IN_BRACKETS.match(text)) and parse_number(bracketed[1]) is not None:
        return _explained(bracketed[1], bracketed[2])
    bare = _without_latex(SUM_BEHIND.sub("", text))
    if (whole := parse_number(bare)) is not None and not LETTERED.search(bare):
        return whole
    if (
        bare.count("=") == 1
        and (whole := parse_number(bare.split("=")[0])) is not None
        and parse_number(bare.split("=")[1]) is None
    ):
        if re.fullmatch(r"\s*[a-zA-Z]\s*", bare.split("=")[1]):
            return whole  # 42 = x
        return _explained(bare.split("=")[0], bare.split("=")[1])
    if FORMULA.search(bare):
        return _value_of(text)
    return _chosen(bare)


def _explained(number: str, explanation: str) -> Number | None:
    """The number of an answer that explains it by a sum ("14 (8 + 6)", "4 = 10 - 6") or by the items ("3 (31, 33,
    37)"); None if the two disagree.
    """
    whole = parse_number(number)
    if "," in explanation or not explanation.strip():
        return whole
    said = parse_number(explanation) or _value_of(explanation)
    return whole if said is not None and whole is not None and said.value == whole.value else None


def _chosen(text: str) -> Number | None:
    """The number that running text results in; None if a short text has several and nothing sets one apart."""
    if SPAN.search(text) or SEVERAL.search(text):
        return None
    text = OUT_OF.sub("", text)
    numbers = find_numbers(text)
    digits = [number for number in numbers if any(mark.isdigit() for mark in text[number.start : number.end])]
    numbers = tuple(digits) or numbers
    if not numbers and (none := NONE.search(text)):
        return Number(Fraction(0), *none.span())
    years = {match.end() for match in YEAR.finditer(text)}
    numbers = tuple(number for number in numbers if number.start not in years) or numbers
    if len(numbers) <= 1:
        return numbers[0] if numbers else None
    if left := [match for match in REMAINING.finditer(text) if match[1]]:
        return next((number for number in numbers if number.start >= left[-1].start()), None)
    for pattern in BEHIND:
        places = [match.end() for match in pattern.finditer(text)]
        if places:
            behind = [number for number in numbers if number.start >= places[-1]]
            if behind:
                return None if JOINED.match(text, behind[0].end) else behind[0]
    if len({number.value for number in numbers}) > 1 and len(text) <= 80:
        return None
    return numbers[-1]


def _value_of(text: str) -> Number | None:
    """The value of a formula; None if it has an unknown, or if words surround several formulas."""
    formulas = [next(piece for piece in match.groups() if piece) for match in FORMULAS.finditer(text)]
    source = formulas[-1] if formulas else text
    source = APPROXIMATE.split(source.split("=")[-1])[0] or source
    source = COPULA.split(source)[-1].strip(" :.*")
    tree = parse(source)
    found = values(tree) if tree is not None else None
    if found is None or len({round(value.real, 9) for value in found}) > 1 or abs(found[0].imag) > 1e-12:
        bare = UNIT_BEHIND.sub("", source)
        return _value_of(bare) if bare != source else None
    exact = value_at(tree, 0) if tree is not None else None
    return Number(exact if isinstance(exact, Fraction) else Fraction(found[0].real), 0, len(text))


APPROXIMATE = re.compile(r"≈|\\approx(?![a-z])")
UNIT_BEHIND = re.compile(rf"(?<=[\d}})])\s+{UNIT.pattern}$")


LATEX = re.compile(r"[\\^$*`{}]")


def _without_latex(text: str) -> str:
    if not LATEX.search(text):
        return text.strip()
    text = re.sub(r"(?<=\d)(?=\\[dtc]?frac)", " ", text)
    text = re.sub(r"\\[dtc]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"\\(?:text|mbox|mathrm)\s*\{([^{}]*)\}", r" \1 ", text)
    text = UNIT_POWER.sub("", text)
    text = re.sub(r"\^\s?\{?\s?(?:\\circ|°)\s?\}?|\\degree", "°", text)
    return (
        re.sub(r"\\(?:left|right|[()\[\],;!: ])|\$(?!\s?\d)|(?<=\d)\s?\$|[*`{}]", " ", text)
        .replace("\\approx", "≈")
        .strip()
    )
