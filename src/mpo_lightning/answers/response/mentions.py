"""Finds the options that a text mentions: by their words, or marked right or wrong one by one.

Examples of marks: "A. red - incorrect", "option B is correct", "B选项正确".
"""

import re

from mpo_lightning.answers.response.qualifiers import is_answer_no, is_denied, without_bounds
from mpo_lightning.answers.response.yes_no import BUT_YES
from mpo_lightning.answers.values.numbers import find_numbers, parse_number
from mpo_lightning.answers.values.units import units_differ
from mpo_lightning.answers.values.words import words_of

EMPTY = frozenset(
    [
        "a",
        "an",
        "the",
        "it",
        "its",
        "would",
        "will",
        "may",
        "might",
        "could",
        "be",
        "is",
        "are",
        "was",
        "were",
        "in",
        "of",
        "to",
        "and",
        "also",
        "they",
        "there",
        "this",
        "that",
        "if",
        "then",
        "for",
        "with",
        "on",
        "by",
        "number",
    ]
)
"""Words that do not distinguish options."""


NEAR = 12
"""Characters behind a number in which its unit is."""
SCALED = re.compile(r"\s(?:thousand|million|billion|trillion)\b")
HAN_WORD = re.compile(r"^[^\d]*[\u4e00-\u9fff]{3}[^\d]*$")
"""Chinese words, which may begin with a numeral (三角形)."""
LONE_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")


def equal_options(text: str, choices: tuple[str, ...]) -> list[int]:
    """The options that the whole text equals, in words or as a number."""
    if len(text) > 400:
        return []
    words, letter = words_of(text), LONE_LETTER.fullmatch(text.strip())
    found = [place for place, choice in enumerate(choices) if words_of(choice) == words]
    if letter:  # (E) is not the option "(e)"
        found = [place for place in found if letter[1] in choices[place]]
    if found or HAN_WORD.search(text) or (number := parse_number(text)) is None:
        return found[:1]
    values = [parse_number(choice) for choice in choices]
    return [
        place
        for place, value in enumerate(values)
        if value is not None
        and (value.value, value.percent and not number.percent) == (number.value, False)
        and not units_differ(text, choices[place])
    ]


def mentioned_options(text: str, choices: tuple[str, ...]) -> list[int]:
    """The options whose words appear in a text, without those that are part of a longer mentioned option."""
    words = f" {words_of(text)} "
    if all(parse_number(choice) for choice in choices):
        words = f" {without_bounds(words).strip()} "
    spans: list[tuple[int, int, int]] = []
    for place, choice in enumerate(choices):
        wanted = words_of(choice)
        if not wanted or (len(choice.strip().strip("()")) == 1 and choice.strip().strip("()").isalpha()):
            continue  # a single letter is found as an option's letter
        numeric = None if HAN_WORD.search(choice) else parse_number(choice)
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
            if words[:start].endswith("non-") or (
                numeric and (SCALED.match(words, stop) or units_differ(words[start : stop + NEAR].strip(), choice))
            ):
                continue
            follows = words[stop + 1 : stop + 2]
            if (
                wanted[-1].isalnum()
                and wanted[-1].isascii()
                and (
                    (after.isalnum() and after.isascii())
                    or after == "_"
                    or (numeric and after in ".,/^√°" and follows.isdigit())
                )
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
                and not units_differ(words[number.start : number.end + NEAR].strip(), choice)
            ]
    inside = [
        one
        for one in spans
        if not any(
            other[0] <= one[0] and one[1] <= other[1] and other[1] - other[0] > one[1] - one[0] for other in spans
        )
    ]
    return sorted({place for _, _, place in inside})


def all_words_option(sentence: str, choices: tuple[str, ...]) -> int | None:
    """The only option whose words all appear in a sentence, in any inflection; otherwise None."""
    there = _stems(sentence)
    wanted = [_stems(choice) for choice in choices]
    found = [
        place
        for place, stems in enumerate(wanted)
        if stems <= there and any(len(stem) > 1 and stem.isalpha() for stem in stems)
    ]
    found = [place for place in found if not any(wanted[place] < wanted[other] for other in found)]
    return found[0] if len(found) == 1 else None


def _stems(text: str) -> set[str]:
    words = set(re.findall(r"[a-z]+|\d+(?:\.\d+)?", words_of(text))) - EMPTY
    return {re.sub(r"(?<=[a-z]{3})(?:ing|ed|es|s|d|e)$", "", word) for word in words}


LINE = re.compile(
    r"^[\s\-*•|✓✔✅]*(?:[Oo]ption\s+|选项\s?)?[(（]?(?P<letter>[A-J])(?:[)）.:：、|]|\s*[-–—]|\s+(?=is\b"
    r"|\|))(?P<said>[^\n]{1,300})$",
    re.MULTILINE,
)
WRONG = re.compile(
    r"\b(?:incorrect|wrong|false|eliminated|ruled\s+out|(?:not|isn't)\s+(?:the\s+)?(?:correct|right|true))\b|错误|不正确"
    r"|不对|不符合|✗|✘|❌|\b不选",
    re.IGNORECASE,
)
RIGHT = re.compile(
    r"(?:[-–—:：|,，。.;；(（→]\s*|\bthis\s+is\s+(?:the\s+)?|^\s*is\s+(?:the\s+)?)(?:correct|right"
    r"|true)\b(?!\s*-?\s*(?:side|hand|of|angle|triangle|that|to|for|end|half)\b)|(?<!不)正确|✓|✔|✅",
    re.IGNORECASE,
)
SPOKEN = re.compile(
    r"(?:(?<![A-Za-z0-9∠△])(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\**[(（]?(?P<named>[A-J])[)）]?\**|(?:\b[Ss]o\s"
    r"|[Tt]herefore,?\s|[Tt]hus,?\s|[Oo]nly\s|^)[(（]?(?P<bare>[A-J])[)）]?)"
    r"\s+(?:is|must\s+be|would\s+be|fits|works|matches|remains)(?=\s+(?:definitely\s+|clearly\s+|therefore\s+"
    r"|indeed\s+)?(?:the\s+)?(?:only\s+|best\s+|most\s+)?(?P<verdict>correct|right|true)\b(?!\s*-?\s*(?:side|hand"
    r"|of|angle|triangle))|[\s.!,]*$)"
    r"|\b[Oo]nly\s+(?:option\s+)?[(（]?(?P<only>[A-J])[)）]?\s+(?:fits|works|matches|remains|is\s+left)\b"
    r"|\b(?:leaving|leaves)\s+(?:only\s+)?(?:us\s+with\s+)?(?:option\s+)?[(（]?(?P<left>[A-J])[)）]?(?=\s*(?:[.,!]|$"
    r"|as\b))"
    r"|\b(?:it|answer)\s+must\s+be\s+(?:option\s+)?[(（]?(?P<must>[A-J])[)）]?(?=[.,!]|\s*$)"
    r"|(?:选项\s?(?P<han>[A-J])|(?P<item>[A-J])\s?(?:选项|项))\s?(?:是|为)?(?P<right>正确|对|符合)",
    re.MULTILINE,
)


def marked_option(text: str, count: int) -> int | None:
    """The option that a text marks as right; None if it marks none or several.

    Args:
        text: a response without an announced answer.
        count: number of options.
    """
    allowed = "ABCDEFGHIJ"[:count]
    right: set[str] = set()
    wrong: set[str] = set()
    for match in LINE.finditer(text):
        letter, said = match["letter"], BUT_YES.sub(" ", match["said"])
        if WRONG.search(said):
            wrong.add(letter)
        elif RIGHT.search(said) or match[0].lstrip(" -*•|")[:1] in "✓✔✅":
            right.add(letter)
    spoken = {letter for match in SPOKEN.finditer(text) for letter in _letters(match)}
    chosen = (right or spoken) - wrong
    if len(chosen) == 1 and (letter := chosen.pop()) in allowed:
        return allowed.index(letter)
    rest = set(allowed) - wrong
    return allowed.index(rest.pop()) if not right and not spoken and len(wrong) > 1 and len(rest) == 1 else None


def _letters(match: re.Match[str]) -> list[str]:
    return [letter for name in ("named", "bare", "only", "left", "must", "han", "item") if (letter := match[name])]
