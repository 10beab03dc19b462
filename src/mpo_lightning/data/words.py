"""Texts as their words: what is left when case, punctuation and marks do not count."""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

WORD = re.compile(r"\w+|[+/=<>^√∠%≤≥≠±×÷∞]|[-−](?=\s?\d)")
"""A word, or a sign that changes what a formula says."""


def plain_words(text: str) -> str:
    """A text without case, punctuation, marks and extra space, for comparing; signs of formulas stay."""
    text = text.replace("<image>", " ")
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(WORD.findall(folded))


def word_counts(text: str) -> Counter[str]:
    """How often each word stands in a text."""
    return Counter(plain_words(text).split())


def difference(left: Counter[str], right: Counter[str]) -> float:
    """The share of words, counted with repeats, that one text has and the other has not; 0 for the same words, 1 for
    none in common.
    """
    total = left.total() + right.total()
    return (
        1 - 2 * sum(min(count, right[word]) for word, count in left.items() if word in right) / total if total else 0.0
    )


RUN = 4
"""Units of a run whose repetition counts."""


def repeated_share(units: Sequence[Hashable]) -> float:
    """The share of runs of four units (tokens, words) that the text has had before. 0 for a short one."""
    runs = [tuple(units[place : place + RUN]) for place in range(len(units) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= RUN else 0.0
