"""Options that a text calls right or wrong one by one: "A. red - incorrect", "option B is correct", "B选项正确"."""

import re

from mpo_lightning.answers.sides import BUT_YES

LINE = re.compile(
    r"^[\s\-*•|✓✔✅]*(?:[Oo]ption\s+|选项\s?)?[(（]?(?P<letter>[A-H])(?:[)）.:：、|]|\s*[-–—]|\s+(?=is\b|\|))(?P<said>[^\n]{1,300})$",
    re.MULTILINE,
)
WRONG = re.compile(
    r"\b(?:incorrect|wrong|false|eliminated|ruled\s+out|(?:not|isn't)\s+(?:the\s+)?(?:correct|right|true))\b|错误|不正确|不对|不符合|✗|✘|❌|\b不选",
    re.IGNORECASE,
)
RIGHT = re.compile(
    r"(?:[-–—:：|,，。.;；(（→]\s*|\bthis\s+is\s+(?:the\s+)?|^\s*is\s+(?:the\s+)?)(?:correct|right|true)\b(?!\s*-?\s*(?:side|hand|of|angle|triangle|that|to|for|end|half)\b)|(?<!不)正确|✓|✔|✅",
    re.IGNORECASE,
)
SPOKEN = re.compile(
    r"(?:(?<![A-Za-z0-9∠△])(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\**[(（]?(?P<named>[A-H])[)）]?\**|(?:\b[Ss]o\s|[Tt]herefore,?\s|[Tt]hus,?\s|[Oo]nly\s|^)[(（]?(?P<bare>[A-H])[)）]?)"
    r"\s+(?:is|must\s+be|would\s+be|fits|works|matches|remains)(?=\s+(?:definitely\s+|clearly\s+|therefore\s+|indeed\s+)?(?:the\s+)?(?:only\s+|best\s+|most\s+)?(?P<verdict>correct|right|true)\b(?!\s*-?\s*(?:side|hand|of|angle|triangle))|[\s.!,]*$)"
    r"|\b[Oo]nly\s+(?:option\s+)?[(（]?(?P<only>[A-H])[)）]?\s+(?:fits|works|matches|remains|is\s+left)\b"
    r"|\b(?:leaving|leaves)\s+(?:only\s+)?(?:us\s+with\s+)?(?:option\s+)?[(（]?(?P<left>[A-H])[)）]?(?=\s*(?:[.,!]|$|as\b))"
    r"|\b(?:it|answer)\s+must\s+be\s+(?:option\s+)?[(（]?(?P<must>[A-H])[)）]?(?=[.,!]|\s*$)"
    r"|(?:选项\s?(?P<han>[A-H])|(?P<item>[A-H])\s?(?:选项|项))\s?(?:是|为)?(?P<right>正确|对|符合)",
    re.MULTILINE,
)


def marked_option(text: str, count: int) -> int | None:
    """The option that a text marks as the right one; None where it marks none or several.

    Args:
        text: without an announced answer.
        count: of options.
    """
    allowed = "ABCDEFGH"[:count]
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
