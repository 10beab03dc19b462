"""Compares texts by their words, without case, punctuation and marks."""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

WORD = re.compile(r"\w+|[+/=<>^√∠%≤≥≠±×÷∞]|[-−](?=\s?\d)")
"""A word, or a sign that changes the meaning of a formula."""


def plain_words(text: str) -> str:
    """A text without case, punctuation, marks and extra space, for comparison; the signs of formulas stay."""
    text = text.replace("<image>", " ")
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(WORD.findall(folded))


def word_counts(text: str) -> Counter[str]:
    """Number of occurrences of each word in a text."""
    return Counter(plain_words(text).split())


def difference(left: Counter[str], right: Counter[str]) -> float:
    """Share of words, counted with repeats, that only one of two texts has: 0 for equal words, 1 for none in common."""
    total = left.total() + right.total()
    return (
        1 - 2 * sum(min(count, right[word]) for word, count in left.items() if word in right) / total if total else 0.0
    )


RUN = 4
"""Number of units in each run that is compared."""


def repeated_share(units: Sequence[Hashable]) -> float:
    """Share of the runs of four units (tokens, words) that occurred earlier in the text; 0 for a short text."""
    runs = [tuple(units[place : place + RUN]) for place in range(len(units) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= RUN else 0.0
