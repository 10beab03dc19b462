"""The contents of \\boxed{...}."""

import re

MOST, LONGEST = 20, 2_000
"""Boxes of a text that are looked at, from its end, and characters of one."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Place, end and content of every \\boxed{...}, its braces counted; one that the text's end cuts off is taken as it is."""
    found: list[tuple[int, int, str]] = []
    for match in list(re.finditer(r"\\?(?:f|\\)?boxed\s?\{", text))[-MOST:]:
        if found and match.start() < found[-1][1]:
            continue
        depth, place = 1, match.end()
        limit = min(len(text), match.end() + LONGEST)
        while place < limit and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        content = text[match.end() : place - 1] if depth == 0 else text[match.end() : match.end() + 200]
        found.append((match.start(), place if depth == 0 else match.end(), content))
    return found


def joined_boxes(text: str) -> str | None:
    """The content of the last \\boxed{...}, with those right before it; None without any."""
    found = boxes(text)
    if not found:
        return None
    content = found[-1][2]
    for before, behind in zip(found[-2::-1], found[:0:-1], strict=False):
        between = text[before[1] : behind[0]]
        if len(between) > 60 or "\n" in between or re.search(r"[=<>]|[.!?]\s", between):
            break
        content = f"{before[2]}, {content}"
    return content.strip()
