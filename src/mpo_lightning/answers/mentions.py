"""Options whose words stand in a text."""

import re
from functools import lru_cache

from mpo_lightning.answers.bounds import without_bounds
from mpo_lightning.answers.hedges import is_answer_no, is_denied
from mpo_lightning.answers.numbers import find_numbers, parse_number

EMPTY = frozenset(
    ["a", "an", "the", "it", "its", "would", "will", "may", "might", "could", "be", "is", "are", "was", "were", "in", "of", "to", "and", "also", "they", "there", "this", "that", "if", "then", "for", "with", "on", "by", "number"]
)  # fmt: skip
"""Words that tell no option from another."""


PLAIN = re.compile(r"[A-Za-z0-9. ]*")
ARTICLE = re.compile(r"^(?:a|an|the)\s")


@lru_cache(maxsize=4096)
def words_of(text: str) -> str:
    """A text as it is compared: small letters, one space, no LaTeX, no articles or points at the ends."""
    if PLAIN.fullmatch(text) and "egree" not in text:
        return ARTICLE.sub("", " ".join(text.lower().split()).strip(" ."))  # what the rest would come to
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\^?\s?\{?\\circ\}?|\\degree|°|º|\bdegrees?\b", "°", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√\1", text)
    text = re.sub(r"\\(?:left|right|[,;!: ])|\\(?=[%$#&_])", "", text).replace("~", " ")
    text = re.sub(r"[$`\"“”*{}]|\\(?=[a-z])", "", text).lower().replace("−", "-").replace("–", "-")
    text = re.sub(r"\s*([-+=/^,×√°()])\s*", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .。!,;:'")
    return ARTICLE.sub("", text)


def equal_options(text: str, choices: tuple[str, ...]) -> list[int]:
    """Options that the whole text is: in words or as a number."""
    if len(text) > 400:
        return []
    words = words_of(text)
    found = [place for place, choice in enumerate(choices) if words_of(choice) == words]
    if found or (number := parse_number(text)) is None:
        return found[:1]
    values = [parse_number(choice) for choice in choices]
    return [place for place, value in enumerate(values) if value is not None and value.value == number.value]


def mentioned_options(text: str, choices: tuple[str, ...]) -> list[int]:
    """Options whose words stand in a text, those that are part of a longer one left out; several only where they are several."""
    words = f" {words_of(text)} "
    if all(parse_number(choice) for choice in choices):
        words = f" {without_bounds(words).strip()} "
    spans: list[tuple[int, int, int]] = []
    for place, choice in enumerate(choices):
        wanted = words_of(choice)
        if not wanted or (len(choice.strip().strip("()")) == 1 and choice.strip().strip("()").isalpha()):
            continue  # an option that is a letter is named as one
        numeric = parse_number(choice)
        stop = 0
        while (start := words.find(wanted, stop)) >= 0:
            stop = start + len(wanted)
            before, after = words[start - 1], words[stop] if stop < len(words) else " "
            if (
                wanted[0].isalnum()
                and wanted[0].isascii()
                and ((before.isalnum() and before.isascii()) or before in "._" or (numeric and before in "-,/^√"))
            ):
                continue
            follows = words[stop + 1 : stop + 2]
            if (
                wanted[-1].isalnum()
                and wanted[-1].isascii()
                and ((after.isalnum() and after.isascii()) or after == "_" or (numeric and after in ".,/^√°" and follows.isdigit()))
            ):
                continue
            if wanted == "no":
                if not is_answer_no(words[stop:]):
                    continue
            elif is_denied(words[max(0, start - 25) : start], words[stop : stop + 40]):
                continue
            spans.append((start, stop, place))
        if numeric is not None and not any(span[2] == place for span in spans):
            spans += [
                (number.start, number.end, place)
                for number in find_numbers(words)
                if number.value == numeric.value
                and number.percent == numeric.percent
                and not words[: number.start].endswith(" not ")
            ]
    inside = [
        one
        for one in spans
        if not any(other[0] <= one[0] and one[1] <= other[1] and other[1] - other[0] > one[1] - one[0] for other in spans)
    ]
    return sorted({place for _, _, place in inside})


def all_words_option(sentence: str, choices: tuple[str, ...]) -> int | None:
    """The only option all of whose words stand in a sentence, in whatever form."""
    there = _stems(sentence)
    wanted = [_stems(choice) for choice in choices]
    found = [
        place for place, stems in enumerate(wanted) if stems <= there and any(len(stem) > 1 and stem.isalpha() for stem in stems)
    ]
    found = [place for place in found if not any(wanted[place] < wanted[other] for other in found)]
    return found[0] if len(found) == 1 else None


def _stems(text: str) -> set[str]:
    words = set(re.findall(r"[a-z]+|\d+(?:\.\d+)?", words_of(text))) - EMPTY
    return {re.sub(r"(?<=[a-z]{3})(?:ing|ed|es|s|d|e)$", "", word) for word in words}
