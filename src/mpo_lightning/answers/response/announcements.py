"""Finds the statements of a response that announce its answer: boxes, "Final answer:", "the answer is", tags, 答案.

An announcement that is not the response's own claim ("the book's answer is", "the wrong answer", "the answer would be 5
if") does not count. What stands right around a box belongs to the answer: -\\boxed{42} is -42.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MOST = 40
"""Number of announcements of each kind that are read, from the end of the text."""
HEDGE_BEFORE = 70
"""Characters before an announcement that are searched for what makes it someone else's."""

ANNOUNCED = re.compile(
    r"(?:\bfinal\s+(?:answer|result)|\b(?:correct|right)\s+(?:answer|option|choice|response|letter)(?:\s+letter)?|\b(?:the|my|our"
    r"|an)\s+(?:\w+\s+)?(?:answer|option\s+letter|choice)|"
    r"\banswer(?:\s\d{1,2}(?=\s?[:：]))?|\bans\b)"
    r"(?:\s+to\s+(?:the|this|your)\s+(?:\w+\s+)?(?:question|problem|equation))?"
    r"(?:\s+(?:would|should|must|will|could|can|might)\s+be(?:come)?|\s+(?:is|are|was|equals))?"
    r"(?:\s+(?:therefore|thus|then|hence|clearly|simply|most\s+likely|likely|probably|definitely|indeed|also))?"
    r"\**\s{0,3}(?P<mark>[:：=→–—]|(?<=is)\b|(?<=be)\b|(?<=are)\b|(?<=was)\b|(?<=equals)\b|(?<=likely)\b)",
    re.IGNORECASE,
)
CHINESE = re.compile(
    r"(?:最终|正确|所以|因此|故)?(?:答案|选项|结果)\s{0,3}(?:应该|应)?(?P<mark>[是为:：]|选)\s{0,3}[:：]?|(?:故|应|因此|所以|正确的?)?选(?:择"
    r"|项)?\s{0,2}[:：]?\s{0,2}(?=[(（]?[A-Z](?![a-z]))"
)
HEADING = re.compile(r"\bfinal\s+answer[\s*]{0,4}\n", re.IGNORECASE)
"""A title above the answer."""
TAGGED = re.compile(r"[\[<#\"']")
BRACKETED = re.compile(r"\[answer\]|<(?:final_?)?answer>|####|[\"'](?:final_?)?answer[\"']\s*:", re.IGNORECASE)
CLOSING = re.compile(r"</(?:final_?)?answer>.*|(?<=[\"'])\s*\}.*$", re.IGNORECASE)
"""Text after an answer in tags or in JSON."""
MORE_FIELDS = re.compile(r"^(\"[^\"]*\"|'[^']*'|[-\d.]+|\[.*?\])\s*(?:,\s*[\"'][\w ]{1,40}[\"']\s*:|\}).*$")
"""A JSON value with the fields after it."""
QUOTES = ('"', "'")
LISTED = re.compile(r"^\s*[-•*]\s+")
NO_ANSWER = re.compile(
    r"(?:choices?|options?|format|the\s+question)\W*$|\[(?:letter|option|number|answer|your\s+answer)\]",
    re.IGNORECASE,
)
"""Words of the prompt where an answer should be."""
REFERENCE = re.compile(r"(?:see|as|given|shown|mentioned)\s+(?:above|below|before)", re.IGNORECASE)
NOT_AN_ANSWER = re.compile(
    r"(?:not\s+(?:clear|given|provided|possible|among|shown|listed)|in\s+the\s+form|as\s+follows|based\s+on|the\s+question|below\b"
    r"|obtained|found\s+by)",
    re.IGNORECASE,
)
_OTHERS = (
    r"incorrect|wrong|false|possible|plausible|tempting|estimated|approximate|rounded|rough|your|his|her|their|someone's"
    r"|(?:student|teacher|friend|book|key|textbook|author)'?s|required|previous|naive|intermediate"
)
OTHERS_ANSWER = re.compile(rf"\b(?:{_OTHERS})\b", re.IGNORECASE)
"""Words within an announcement that make it one of something else, or of someone else's answer."""
REPORTED = re.compile(
    rf"\b(?:(?:{_OTHERS})(?:\s+\w+)?|claims?|says?|said|thinks?|thought|believes?|doubt|unlikely|deny|whether|ruled?\s+out|excluded?|why\s+not"
    r"|(?:not|n't)\s+(?:mean|imply|follow|think|believe|say)\w*|(?:mistake|error|distractor|trap|pitfall|note)s?\s*:)"
    r"(?:\s+(?:that|the|an?))*[\s\W]*$",
    re.IGNORECASE,
)
"""Words right before an announcement that do the same: "the book's", "she says that", "common mistake:"."""
SUPPOSING = re.compile(r"\b(?:could|might|may|can)\b", re.IGNORECASE)
LINE_START = re.compile(r"[.!?。\n]\s|\n")
SHORTEST_CONDITION = 10
"""Fewest characters of an answer with a condition."""
FAULT = re.compile(r"\b(?:common|frequent|typical|usual)\s+(?:mistake|error|trap|pitfall|fault)", re.IGNORECASE)
PARTIAL = re.compile(r"\banswer\s+to\s+(?:the\s+)?(?:first|part|following|question\s+\w|\(?[a-z]\))", re.IGNORECASE)
CONDITION = re.compile(
    r"\b(?:only\s+if|if\s+(?:the|both|all|we|one|you|it|there)|when\s+one|is\s+(?:wrong|incorrect|impossible))\b",
    re.IGNORECASE,
)
"""Words behind an answer that do not let it stand."""


@dataclass(frozen=True)
class Announcement:
    """A statement that announces an answer.

    Attributes:
        start: index of its first character.
        end: index where the answer begins.
        text: the answer.
        rule: "boxed", "final answer", "announced" or "bracketed".
    """

    start: int
    end: int
    text: str
    rule: str


@lru_cache(maxsize=16)
def announcements(text: str) -> tuple[Announcement, ...]:
    """The last announcements of a response that are its own, in order; boxes that follow each other are one."""
    boxed = _boxed(text) if "boxed" in text else []
    found: list[Announcement] = []
    patterns = [("announced", ANNOUNCED), *([("final answer", HEADING)] if "\n" in text else [])]
    if not text.isascii():
        patterns.append(("announced", CHINESE))
    if TAGGED.search(text):
        patterns.append(("bracketed", BRACKETED))
    for rule, pattern in patterns:
        for match in list(pattern.finditer(text))[-MOST:]:
            behind = behind_announcement(text, match.end())
            if not behind or NO_ANSWER.match(behind) or REFERENCE.match(behind) or "boxed" in behind[:60]:
                continue
            if rule == "announced" and pattern is ANNOUNCED and not _own(text, match, behind):
                continue
            name = "final answer" if match[0].lower().startswith("final") else rule
            found.append(Announcement(match.start(), match.end(), behind, name))
    found += boxed
    if len(found) < 2:
        return tuple(found)
    found.sort(key=lambda one: one.end)
    return tuple(
        one for place, one in enumerate(found) if place + 1 == len(found) or one.end + 2 < found[place + 1].start
    )


def is_disowned(text: str) -> bool:
    """Whether a response announces answers that are not its own, or refers to one elsewhere ("see above")."""
    return ANNOUNCED.search(text) is not None and any(
        not _own(text, match, behind) or REFERENCE.match(behind)
        for match in list(ANNOUNCED.finditer(text))[-MOST:]
        if (behind := behind_announcement(text, match.end()))
    )


def _own(text: str, match: re.Match[str], behind: str) -> bool:
    """Whether an announcement is the response's claim, not a possibility, a condition or another's answer."""
    lead = match[0]
    if not _claims(lead) or NOT_AN_ANSWER.match(behind):
        return False
    if start := match.start():
        before = LINE_START.split(text[max(0, start - HEDGE_BEFORE) : start])[-1]
        if REPORTED.search(before) or FAULT.search(before):
            return False
    condition = CONDITION.search(re.split(r"[.;]\s", behind[:120])[0]) if len(behind) > SHORTEST_CONDITION else None
    return not (condition and ("would" in lead.lower() or condition.start() < 25))


@lru_cache(maxsize=1024)
def _claims(lead: str) -> bool:
    """Whether the words of an announcement claim an answer of their own: not "the wrong answer is", "could be"."""
    return not (SUPPOSING.search(lead) or OTHERS_ANSWER.search(lead) or PARTIAL.search(lead))


def behind_announcement(text: str, place: int) -> str:
    """The rest of the line after an announcement, or the next line with content."""
    rest = text[place : place + 2000]
    for number, line in enumerate(rest.split("\n")[:4]):
        line = LISTED.sub("", line) if number else line
        line = CLOSING.sub("", line) if "<" in line or "}" in line else line
        line = line.strip().lstrip(":：*=→–— ").strip("*_` ")
        line = MORE_FIELDS.sub(r"\1", line) if line[:1] in "\"'[" or "}" in line else line
        if line[:1] in QUOTES and re.fullmatch(r"[\"'][^\"']*[\"']", line):
            line = line[1:-1]
        if line and line not in ("$$", "\\[", "```", ":"):
            return line
    return ""


MOST_BOXES, LONGEST_BOX = 20, 2_000
"""Number of boxes examined, from the end of the text, and the longest box in characters."""
BOX = re.compile(r"\\?(?:f|\\)?boxed\s?\{")


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every \\boxed{...}, with nested braces; a box cut off by the text's end is kept."""
    found: list[tuple[int, int, str]] = []
    for match in list(BOX.finditer(text))[-MOST_BOXES:]:
        if found and match.start() < found[-1][1]:
            continue
        depth, place = 1, match.end()
        limit = min(len(text), match.end() + LONGEST_BOX)
        while place < limit and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        content = text[match.end() : place - 1] if depth == 0 else text[match.end() : match.end() + 200]
        found.append((match.start(), place if depth == 0 else match.end(), content))
    return found


BETWEEN = re.compile(r"(?:\s|\$|\\\(|\\\)|\\[,;!]|[,;、]|and|or|和|[a-zA-Z](?:_\{?\w\}?)?\s*=)*")
"""What joins boxes that are one answer."""


def _boxed(text: str) -> list[Announcement]:
    """The boxes of a text with what belongs to them; those right after each other are one list."""
    groups: list[list[tuple[int, int, str]]] = []
    for box in boxes(text):
        between = text[groups[-1][-1][1] : box[0]] if groups else ""
        whole = groups and BETWEEN.fullmatch(between)
        joined = (whole and ("\n" not in between or "=" in between)) or (
            groups and "\n" not in between and _one_sentence(between)
        )
        groups = [*groups[:-1], [*groups[-1], box]] if joined else [*groups, [box]]
    found = []
    for group in groups:
        content = _listed(text, group) if len(group) > 1 else _with_surroundings(text, *group[0])
        found.append(Announcement(group[0][0], group[-1][0] + 1, content, "boxed"))
    return found


NAME = re.compile(r"(?<![a-zA-Z\\])([a-zA-Z](?:_\{?\w\}?)?)\s*=\s*\$?$")


def _listed(text: str, group: list[tuple[int, int, str]]) -> str:
    """Several boxes as one list, with the names of their values if these differ."""
    names = [NAME.search(text[max(0, start - 20) : start]) for start, _, _ in group]
    named = all(names) and len({name[1] for name in names if name}) > 1
    contents = [part[2].strip() for part in group]
    return ", ".join(
        f"{name[1]} = {content}" if named and name else content for name, content in zip(names, contents, strict=True)
    )


def _one_sentence(between: str) -> bool:
    return len(between) <= 60 and not re.search(
        r"[=<>]|^[\s$]*[-/:+*^][\s$]*$|[.!?。]|\b(?:wait|no|actually|alternatively|then|but|not|if)\b",
        between,
        re.IGNORECASE,
    )


_MATH = r"(?:[-+*/^<>≤≥≠≈(){}\[\]\d.,%\s]|\\[a-zA-Z]+|(?<![A-Za-z])[a-zA-Z](?![A-Za-z]))"
LEFT = re.compile(
    rf"(?:(?<=[=$\n])|^|(?<=\\\()|(?<=\s)){_MATH}*(?:[-+/^<>≤≥≠(]|(?<=\S)\*|\\[a-zA-Z]+\s?\{{?|\}}\{{)\s*$"
)
"""Mathematics that a box completes."""
LAYOUT = re.compile(
    r"\\(?:quad|qquad|displaystyle|approx|therefore|implies|Rightarrow|text|textbf|mathbf|color)\s?\{?|[({*]"
)
"""Marks before a box that do not change its value."""
RIGHT = re.compile(
    r"(?:\s?(?:\\[,;! ])*(?:\^(?:\{[^{}]{1,12}\}|\\?\w{1,8})|°|\\?%|[-+*/^]\s?[\d\\a-z(][^$\n.,]{0,20}"
    r"|\\(?!text\s?\{\s*(?:for|if|and)|\)|\]|end)[a-zA-Z]+(?:\s?\{[^{}]{0,30}\})*|[a-zA-Z](?![a-zA-Z'])|\}+)){1,3}"
    r"(?:\s?\d+)?|\s+(?:hundred|thousand|million|billion|dozen|percent)\b"
)
"""What behind a box belongs to its value: a factor, a power, a unit, a scale."""
DENYING = re.compile(r"not|never|cannot|doubt|unlikely|hardly|nor|n't", re.IGNORECASE)
WORDS_LEFT = re.compile(
    r"(?:\b(?:at\s+(?:least|most)|not|never|cannot|doubt|doubtful|unlikely|hardly|nor|except|than|under|over|below|above|least|most|before|after|nearly|almost)|n't)"
    r"(?:\s+(?:be|say|that|is|equal(?:\s+to)?|it\s+is|the|a))*\s*\$?$",
    re.IGNORECASE,
)
OR_LEFT = re.compile(r"(?:([^\s$,]{1,20})\$?|(\d[\d.]{0,20}),)\s+or\s+\$?$", re.IGNORECASE)
POSSIBLE_RIGHT = re.compile(
    r"\$?[\s,(\[]+(-?\d[\d.]*|[A-J])\s+(?:is|are|would\s+be)\s+(?:also\s+|equally\s+)?possible", re.IGNORECASE
)
OR_RIGHT = re.compile(
    r"\$?[\s,(\[]+or\s+(?:possibly\s+|perhaps\s+|maybe\s+|even\s+)?\$?([^\s.$)]{1,20})", re.IGNORECASE
)


def _with_surroundings(text: str, start: int, end: int, content: str) -> str:
    """The content of a box with the signs, factors and words right around it that change its value."""
    content = content.strip()
    line = text.rfind("\n", 0, start) + 1
    left, right = text[max(line, start - 80) : start], text[end : end + 60].split("\n")[0]
    left = re.split(r"[=≈:：]|[.!?]\s", left)[-1]
    if (words := WORDS_LEFT.search(left)) is not None:
        return f"{'not' if DENYING.match(words[0]) else words[0].rstrip(' $')} {content}"
    if (other := OR_LEFT.search(left)) is not None:
        return f"{other[1] or other[2]} or {content}"
    if (other := OR_RIGHT.match(right) or POSSIBLE_RIGHT.match(right)) is not None:
        return f"{content} or {other[1]}"
    head = LEFT.search(left)
    before = head[0].strip() if head and not re.fullmatch(r"\s*(?:[-*+]\s+|\()", left) else ""
    if LAYOUT.fullmatch(before) or re.search(r"\s-\s$", left):
        before = ""
    behind = RIGHT.match(right)
    after = behind[0].rstrip() if behind else ""
    after = after if before.count("{") > before.count("}") or not re.fullmatch(r"\s?\}+", after) else ""
    return f"{before}{content}{after}" if before or after else content


def joined_boxes(text: str) -> str | None:
    """The answer of the last \\boxed{...}, joined with those right before it; None without a box."""
    found = _boxed(text)
    return found[-1].text if found else None
