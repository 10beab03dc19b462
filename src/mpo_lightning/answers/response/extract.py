"""Finds where a response states its answer.

The rules in order: the last announcement of an answer (\\boxed{...}, "Final answer:", "the answer is", 答案), of any
kind; a response that is nothing but an answer; the sentence that concludes. The reference code's first rule takes the
first "Answer:" and one line, and so mistakes reasoning for answers (InternVL `extract_answer.py`, VLMEvalKit
`utils.py`).
"""

import re
import unicodedata

from mpo_lightning.answers.question import Extraction
from mpo_lightning.answers.values.numbers import WRITTEN

HEAD, TAIL = 2_000, 10_000
"""Characters read at both ends of a response; a longer one does not state its answer in the middle."""

SHORT = 700
"""Longest response, in characters, whose first sentence is read as its answer if no sentence concludes."""

EMPHASIS = re.compile(r"\*\*|__(?=\w)|(?<=\w)__")
SPECIAL = re.compile(r"</s>|<s>|<\|[a-z_]{1,20}\|>|<pad>|<unk>|\[/?INST\]", re.IGNORECASE)
ANNOUNCED = re.compile(
    r"(?:\bfinal\s+(?:answer|result)|\bcorrect\s+(?:answer|option|choice)(?:\s+letter)?|\b(?:the|my|our"
    r"|an)\s+(?:\w+\s+)?(?:answer|option\s+letter|choice)|"
    r"\banswer|\bans\b)"
    r"(?:\s+to\s+(?:the|this|your)\s+(?:\w+\s+)?(?:question|problem|equation))?"
    r"(?:\s+(?:would|should|must|will|could|can|might)\s+be(?:come)?|\s+(?:is|are|was|equals))?"
    r"(?:\s+(?:therefore|thus|then|hence|clearly|simply|most\s+likely|likely|probably|definitely|indeed|also))?"
    r"\**\s{0,3}(?P<mark>[:：=]|(?<=is)\b|(?<=be)\b|(?<=are)\b|(?<=was)\b|(?<=equals)\b|(?<=likely)\b)",
    re.IGNORECASE,
)
CHINESE = re.compile(
    r"(?:最终|正确|所以|因此|故)?(?:答案|选项|结果)\s{0,3}(?:应该|应)?(?P<mark>[是为:：]|选)\s{0,3}[:：]?|(?:故|应|因此|所以|正确的?)?选(?:择"
    r"|项)?\s{0,2}[:：]?\s{0,2}(?=[(（]?[A-H](?![a-z]))"
)
BRACKETED = re.compile(r"\[answer\]|<answer>|####|[\"'](?:final_?)?answer[\"']\s*:", re.IGNORECASE)
CLOSING = re.compile(r"</answer>.*|(?<=[\"'])\s*\}.*$", re.IGNORECASE)
"""Text after an answer in tags or in JSON."""
FINAL = re.compile(r"\bfinal\s+answer\W{0,4}\s*(?:is\b)?\s{0,3}[:：]", re.IGNORECASE)
LONE = re.compile(r"\s*[(（]?[A-H][)）]?[.。]?\s*")
LISTED = re.compile(r"^\s*[-•*]\s+")
REFUSAL = re.compile(
    r"\b(?:i\s+(?:can(?:no|')t|cannot|am\s+unable|'m\s+unable|do\s+not\s+(?:have|know)|don't\s+(?:have|know)"
    r"|do\s+not\s+see|don't\s+see|apologi[sz]e)|"
    r"i'm\s+(?:sorry|unable|not\s+(?:able|sure))|i\s+am\s+(?:sorry|not\s+(?:able|sure))|(?:it\s+is|it's|is"
    r"|answer\s+is)\s+(?:not\s+possible|impossible|difficult|unclear|not\s+clear)|"
    r"(?:not|in)\s*(?:enough|sufficient)\s+information|insufficient\s+information|can(?:no|')t\s+be\s+(?:determined"
    r"|answered)|cannot\s+be\s+(?:determined|answered|calculated)|"
    r"without\s+(?:additional|more|further|knowing|any|seeing|the)\b[^.]{0,60}|unable\s+to\s+(?:determine|answer"
    r"|provide)|not\s+possible\s+to\s+(?:determine|answer|provide|know)|"
    r"no\s+(?:image|information|context)\b[^.]{0,40}(?:provided|given|available)|(?:please"
    r"|could\s+you)\s+(?:please\s+)?provide)|无法(?:确定|回答|判断|得出|计算)|不能确定|信息不足|n/a\b",
    re.IGNORECASE,
)
CONCLUSION = re.compile(
    r"(?:^|(?<=[\s,.;:*]))(?:therefore|thus|hence|so|consequently|in\s+conclusion|in\s+total|finally|as\s+a\s+result"
    r"|accordingly|this\s+means|overall|to\s+summarize)\b|因此|所以|综上|故|总共|一共",
    re.IGNORECASE,
)

STATED = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals)\b|[=≈:])\s*(?:approximately|about|around|only|exactly|equal\s+to|\$|:"
    r"|\\[(\[])*\s*-?[\d.,]+(?:\s?\S{1,12}){0,2}[.)$]*$",
    re.IGNORECASE,
)
REMAINING = re.compile(
    rf"({WRITTEN})\s+(?:(?!on\b|the\b|to\b|at\b|in\b)[a-z]+\s+){{0,2}}(?:remain(?:s|ing)?|left)\b(?!\s+(?:side|of"
    rf"|hand))|\b(?:leaves|leaving)\b\D{{0,25}}\d",
    re.IGNORECASE,
)
"""A statement of what remains."""
INVENTED = re.compile(
    r"\n[ \t]*(?:#+[ \t]*)?(?:Question|Hint|Human|User|Instruction|Problem)\s?\d{0,3}\s?:", re.IGNORECASE
)
"""The point where a model that does not stop goes on with a question of its own."""

RUN = re.compile(r"(.{1,8}?)\1{40,}", re.DOTALL)
"""A piece repeated without end, such as blank lines or dots; a run would also slow the patterns below."""


def _may_run(text: str) -> bool:
    """Whether a text may contain a run: somewhere 24 characters have at most 8 distinct ones.

    This is faster than searching for runs.
    """
    return len(text) > 40 and any(len(set(text[place : place + 24])) <= 8 for place in range(0, len(text) - 23, 16))


def clean(response: str) -> str:
    """A response without special tokens, bold markup and thoughts before </think>, with full-width characters made
    plain.
    """
    if len(response) > HEAD + TAIL:
        response = response[:HEAD] + "\n" + response[-TAIL:]
    if _may_run(response):
        response = RUN.sub(r"\1\1\1", response)
    if "</think>" in response:
        response = response.rsplit("</think>", 1)[1]
    response = SPECIAL.sub(" ", response)
    if not response.isascii():
        response = "".join(
            unicodedata.normalize("NFKC", mark) if "\uff01" <= mark <= "\uff5e" else mark for mark in response
        )
        response = response.replace("’", "'").replace("\u00a0", " ").replace("\u202f", " ").replace("\u2212", "-")
    if "**" in response or "__" in response:
        response = EMPHASIS.sub("", response)
    invented = INVENTED.search(response)
    if invented and announced(response[: invented.start()]) is not None:
        response = response[: invented.start()]
    return response.strip()


def announced(text: str) -> Extraction | None:
    """The text after the last announcement of an answer; None if nothing is announced."""
    best: tuple[int, Extraction] | None = None
    found = boxes(text)
    if found:
        best = found[-1][0], Extraction(str(joined_boxes(text)), "boxed", 0.98)
    patterns = [("announced", ANNOUNCED)]
    if not text.isascii():
        patterns.append(("announced", CHINESE))
    if any(mark in text for mark in "[<#\"'"):
        patterns.append(("bracketed", BRACKETED))
    for rule, pattern in patterns:
        for match in pattern.finditer(text):
            if best and match.start() < best[0] and not (best[1].rule == "boxed" and match.end() > best[0]):
                continue
            behind = _behind(text, match.end())
            if not behind or (
                re.match(r"(?:choices?|options?|format|the\s+question)\b", behind, re.IGNORECASE) and len(behind) < 12
            ):
                continue
            if best and best[1].rule == "boxed" and "boxed" in behind:
                continue
            if rule == "announced" and pattern is ANNOUNCED and _weak(text, match, behind):
                continue
            best = (
                match.start(),
                Extraction(behind, "final answer" if match[0].lower().startswith("final") else rule, 0.95),
            )
    return best[1] if best else None


def other_announcement(text: str, rule: str) -> str | None:
    """The competing answer: the last box beside a "Final answer:", or the text after "Final answer:" beside a box.

    None if either is missing.
    """
    if "boxed" not in text:
        return None
    if rule.startswith("final answer"):
        return joined_boxes(text)
    found = list(FINAL.finditer(text)) if rule.startswith("boxed") else []
    behind = _behind(text, found[-1].end()) if found else ""
    return behind if behind and "boxed" not in behind else None


def last_line(text: str) -> Extraction | None:
    """The letter that stands alone in a text's last line; None if there is none."""
    *before, last = text.rsplit("\n", 1)
    if not before or not LONE.fullmatch(last) or LONE.fullmatch(before[0].rsplit("\n", 1)[-1]):
        return None
    return Extraction(last.strip(), "last line", 0.9)


def _behind(text: str, place: int) -> str:
    """The rest of the line after an announcement, or the next line with content."""
    rest = text[place : place + 2000]
    for number, line in enumerate(rest.split("\n")[:4]):
        line = LISTED.sub("", line) if number else line
        line = CLOSING.sub("", line).strip().lstrip(":：*= ").strip("*_` ")
        if re.fullmatch(r"[\"'][^\"']*[\"']", line):
            line = line[1:-1]
        if line and line not in ("$$", "\\[", "```", ":"):
            return line
    return ""


def _weak(text: str, match: re.Match[str], behind: str) -> bool:
    """Whether an announcement is of something else: "the answer is not ...", "is in the form", a repeated question."""
    if re.search(r"\b(?:could|might|may|can)\b", match[0], re.IGNORECASE):
        return True
    return bool(
        re.match(
            r"(?:not\s+(?:clear|given|provided|possible|among|shown|listed)|in\s+the\s+form|as\s+follows|based\s+on"
            r"|the\s+question|below\b|obtained|found\s+by)",
            behind,
            re.IGNORECASE,
        )
    )


def is_refusal(text: str) -> bool:
    """Whether a text says that it cannot answer."""
    return bool(REFUSAL.search(text))


def sentences(text: str) -> list[str]:
    """Splits a text into sentences; a point between digits does not end one."""
    parts = re.split(r"\n+|(?<=[^\d\s][.!?])\s+|(?<=\d[.!?])\s+(?=[A-Z(*])|(?<=[。!?;])", text)
    return [part.strip() for part in parts if part and part.strip()]


def conclusion(text: str) -> Extraction | None:
    """The concluding sentence: the last one with "therefore" or the like, otherwise the last one."""
    found = sentences(text)
    if not found:
        return None
    for place in range(len(found) - 1, max(-1, len(found) - 4), -1):
        if STATED.search(found[place][-200:]):
            return Extraction(found[place], "statement", 0.85)
        if REMAINING.search(found[place]):
            return Extraction(found[place], "conclusion", 0.8)
        if CONCLUSION.search(found[place]):
            if place + 1 < len(found) and found[place].endswith(":"):
                return Extraction(found[place + 1], "conclusion", 0.85)
            return Extraction(found[place], "conclusion", 0.85)
    if len(found) > 1 and len(text) < SHORT and re.search(r"\d", found[0]):
        return Extraction(found[0], "first sentence", 0.7)
    return Extraction(found[-1], "last sentence" if len(found) > 1 else "sentence", 0.75)


MOST_BOXES, LONGEST_BOX = 20, 2_000
"""Number of boxes examined, from the end of the text, and the longest box in characters."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every \\boxed{...}, with nested braces; a box cut off by the text's end is kept."""
    found: list[tuple[int, int, str]] = []
    for match in list(re.finditer(r"\\?(?:f|\\)?boxed\s?\{", text))[-MOST_BOXES:]:
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


def joined_boxes(text: str) -> str | None:
    """The content of the last \\boxed{...}, joined with those right before it; None without a box."""
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
