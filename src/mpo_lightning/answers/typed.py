"""Decides what type of answer the right one is, and whether another answer is the same, compared by that type."""

import re
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.mathematics.equality import same_mathematics
from mpo_lightning.answers.values.normal import normal
from mpo_lightning.answers.values.numbers import parse_number
from mpo_lightning.answers.values.parts import Join, parts_of, same_parts
from mpo_lightning.answers.values.words import same_words


class Type(StrEnum):
    """The type of an answer's value."""

    NOTHING = "nothing"
    """No answer: dots, an asterisk, the word "answer"."""
    NUMBER = "number"
    """A number, with or without a unit."""
    PARTS = "parts"
    """Several numbers joined by marks: a date, a time, a ratio, a range, a score."""
    FORMULA = "formula"
    """Mathematics whose letters are symbols."""
    WORDS = "words"
    """Words, names, codes, chemical formulas: letters that are not symbols."""


UNDELIMITED = re.compile(r"\$([^$\s][^$]*)\$(?!\d)|\\\((.*?)\\\)")
"""Mathematics between dollar signs."""
LABEL = re.compile(r"(?:the\s+)?(?:final\s+)?(?:answer|ans)(?:\s+is)?", re.IGNORECASE)
EMPTY = " \t\n.…*_~:;,!?'\"()[]{}$\\`#|"
"""Characters that make no answer by themselves."""
DECADE = re.compile(r"(?:the\s+)?\d{2,4}s", re.IGNORECASE)
UPRIGHT = re.compile(
    r"\\(?:text|mathrm|mbox|textbf|mathbf|ce|operatorname|rm)\s*\{([^{}]*)\}|\\[,;!: $%#&_{}]|\\(?:left|right)"
)
COMMAND = re.compile(
    r"\\(?!angle|triangle|odot|circ|(?:overline|overrightarrow|bar)\s*\{?\s*[A-Z])[a-zA-Z]+|[\^=<>≤≥≠≈√π∞±∪∩∈×÷·]|\d\s*!|_\{?[\w]"
)
WORD = re.compile(
    r"[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff\u4e00-\u9fff]{2,}|[\u4e00-\u9fff]|\d*[A-Z]+\d+|\d+[A-Z]\w*"
)
KNOWN = re.compile(
    r"(?:a?(?:sin|cos|tan)h?|arc(?:sin|cos|tan)|cot|sec|csc|log|ln|lg|exp|sqrt|max|min|pi|theta|alpha|beta|gamma|lambda|mu|sigma|phi"
    r"|omega|infinity|infty|and|or|mod|gcd|lcm)\d*"
)
PRODUCT = re.compile(r"(?<![A-Za-z\d.])\d+(?!(?:st|nd|rd|th)(?![a-z]))[a-z]{1,3}(?![A-Za-z\d])")
"""A number times symbols: 3ab."""


@lru_cache(maxsize=4096)
def type_of(gold: str) -> Type:
    """The type of a right answer. Letters are symbols only in what is a formula beyond doubt."""
    gold = UNDELIMITED.sub(_inside, gold)
    bare = gold.strip(EMPTY)
    if re.sub(r"\s", "", gold) not in ("{}", "\\{\\}", "[]", "()") and (not bare or LABEL.fullmatch(bare)):
        return Type.NOTHING
    if DECADE.fullmatch(bare):
        return Type.WORDS
    if _unreduced(gold):
        return Type.PARTS
    number = parse_number(gold)
    if number is not None and not re.search(r"[a-z]", gold[: number.start], re.IGNORECASE):
        return Type.NUMBER
    if parts_of(gold) is not None:
        return Type.PARTS
    bare = UPRIGHT.sub(lambda match: f" {match[1] or ''} ", gold)
    if COMMAND.search(bare):
        return Type.FORMULA
    bare = PRODUCT.sub(" ", bare)
    return Type.WORDS if any(not KNOWN.fullmatch(word) for word in WORD.findall(bare)) or "\\" in bare else Type.FORMULA


def _inside(match: re.Match[str]) -> str:
    return str(match[1] or match[2])


def _unreduced(gold: str) -> bool:
    """Whether a plain fraction is not in lowest terms: 10/12 may be a date or a score."""
    found = re.fullmatch(r"\s*(\d{1,4})\s?/\s?(\d{1,4})\s*", gold)
    return (
        found is not None and int(found[2]) > 0 and Fraction(int(found[1]), int(found[2])).denominator != int(found[2])
    )


def equivalent(gold: str, prediction: str, precision: int | None = None) -> bool | None:
    """Whether a prediction equals the right answer, compared by the right answer's type.

    - Numbers are equal as numbers: thousands separators, fractions, decimals, numbers in words. Units do not count.
    - Dates, times, ratios, ranges and scores are compared part by part.
    - Formulas are equal if they have the same values wherever their symbols are substituted; exact values are compared
      exactly. Sets and several solutions are equal in any order, tuples, intervals and matrices entry by entry.
      Equations and inequalities are equal up to a factor; x = 3 equals the bare value.
    - Words are equal as words; their letters do not multiply.
    - A decimal equals an exact value that rounds to it, with at least `precision` decimals, or two in the gold answer.

    Args:
        gold: the right answer in LaTeX or plain text.
        prediction: the answer to compare, likewise.
        precision: decimals from which a rounded number counts as exact; None means three.

    Returns:
        None if undecided: a side that is not understood, a percentage against its fraction of one, too few decimals, or
        the right items in another structure.
    """
    gold, prediction = (UNDELIMITED.sub(_inside, normal(text)) for text in (gold, prediction))
    if (same := _text(gold)) == _text(prediction):
        return bool(same) and type_of(gold) is not Type.NOTHING
    kind = type_of(gold)
    if kind is Type.NOTHING:
        return None
    if kind is Type.WORDS:
        return same_words(gold, prediction)[0]
    if kind is Type.PARTS:
        return _same_parts(gold, prediction)
    found = parts_of(prediction)
    if found is not None and found.join in (Join.RATIO, Join.TIME) and not _is_fraction(gold):
        return None  # 42:1 is not 42, though 3:4 is 3/4
    return same_mathematics(gold, prediction, precision)


def _is_fraction(gold: str) -> bool:
    number = parse_number(gold)
    return number.value.denominator > 1 if number else "frac" in gold


def _same_parts(gold: str, prediction: str) -> bool | None:
    wanted, found = parts_of(gold), parts_of(prediction)
    if wanted is not None and found is not None:
        return same_parts(wanted, found)
    if wanted is not None and wanted.join is Join.RATIO and len(wanted.numbers) == 2 and found is None:
        # 3:4 and 3/4
        return same_mathematics("{}/{}".format(*map(str, wanted.numbers)), prediction, None) or None
    return None


@lru_cache(maxsize=4096)
def _text(source: str) -> str:
    """An answer's text without case and markup that do not change its meaning."""
    source = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|ce)\s*\{([^{}]*)\}", r"\1", source[:4000])
    source = re.sub(r"\\(?:left|right|[,;!:])|\$(?!\d)|\\[()]", "", source).replace("\\ ", " ")
    # 3 1/2 is not 31/2.
    source = re.sub(r"(?<![\d.]) | (?![\d.])", "", re.sub(r"\s+", " ", source))
    source = re.sub(r"([_^])\{(\w)\}", r"\1\2", source.strip().rstrip(".").lower())
    return source[1:-1] if re.fullmatch(r"\([a-z]\)", source) else source
