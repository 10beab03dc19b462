"""Finds the option that a text means: by letter, by the option's words, or by its number."""

import re

from mpo_lightning.answers.question import LETTERS
from mpo_lightning.answers.response.mentions import equal_options, mentioned_options
from mpo_lightning.answers.response.qualifiers import EITHER, is_denied, without_cause
from mpo_lightning.answers.typed import equivalent
from mpo_lightning.answers.values.units import units_differ
from mpo_lightning.answers.values.words import words_of

LETTER_LIST = re.compile(r"\(?[A-Z]\)?(?:\s*(?:,|;|/|&|\||and|or)\s*\(?[A-Z]\)?)+\.?")
BRACKETED = re.compile(r"[(（\[{【]\s?([A-Z])\s?[)）\]}】]")
LEADING = re.compile(
    r"^[\s\"'`(\[{（$]*(?:\\text\s?\{|\\mathrm\s?\{|\\textbf\s?\{)?\(?([A-Z])\)?(?=$|[\s.,:;)\]}）\"'`$\\—-]|选项|项"
    r"|[。，、])(?!\s+[a-z]{2,}\s[a-z]+\s[a-z])"
)
NAMED = re.compile(
    r"(?:\b(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer|[Ss]elect|[Cc]hoose|[Cc]hose|[Pp]ick)s?|选项|答案)\s*(?:is|of"
    r"|:)?\s*\**"
    r"(?:(?=[(\[][A-Za-z][)\]])[(\[]|[\"'`]?(?=[A-Z]))([A-Za-z])(?![A-Za-z'’])"
)
BEHIND_LETTER = re.compile(
    r"^[\s\"'`(\[（$*]*(?:\\text\s?\{|\\mathrm\s?\{|\\textbf\s?\{)?\(?(?:(A\s?[:：])"
    r"|[A-Z]\)?\}?[.,:;)\]}）、：\s-]+)\s*([^\n]{1,80})$"
)
"""A letter and the words after it; "A:" may also mean "answer"."""
PREFERRED = re.compile(r"\b(?:over|than)\s+(?:[Oo]ption\s+)?[(]?$")
"""Text before an option to which another one was preferred."""
ALONE = re.compile(r"(?<![A-Za-z0-9∠△∆°'’.=+\-/*^_\\$])([A-Z])(?=$|[.,;:!)\]。](?:\s|$)|\s*$)")

NAMED_LETTER = re.compile(r"(?<![A-Za-z0-9'\\])\(?([A-J])\)?(?![A-Za-z0-9'])")
"""Any capital letter that may name an option."""

BESIDE = re.compile(
    r"\b(?:points?|at|through|cent(?:er|re)|circle|angles?|lines?|segments?|sides?|triangles?|vertex|vertices"
    r"|vertexes|samples?|from|[A-Z]\s+(?:and|or|to))\s+$"
)
"""Text before a letter that names something in the image."""
LETTERED = re.compile(r"(?<![A-Za-z])[A-J](?![A-Za-z'])(?=.*[a-z]{2})|[a-z]{2}.*(?<![A-Za-z])[A-J](?![A-Za-z'])")
"""An option with a letter among its words ("sample A")."""


def choice_in(text: str, choices: tuple[str, ...]) -> tuple[int, str] | None:
    """Finds the option that an answer means: its index and the rule; None if undecided.

    Args:
        text: an answer, or a sentence that contains it.
        choices: texts of the options.
    """
    count = len(choices)
    text = re.sub(r"\\[()\[\]]", " ", text).strip().strip("`*\"' ✅✔☑")
    if not text or not count:
        return None
    # A letter can only be an option's text if some option is as short.
    whole = equal_options(text, choices) if len(text) > 3 or any(len(choice) < 6 for choice in choices) else []
    if len(whole) == 1:
        return whole[0], "text"
    if EITHER.search(without_cause(text)):
        return None
    if LETTER_LIST.fullmatch(text):
        return None
    if is_formula(text):
        same = [
            place for place, choice in enumerate(choices) if equivalent(choice, text) and not units_differ(choice, text)
        ]
        if len(same) == 1:
            return same[0], "expression"
    letter = letter_in(text, count)
    if letter is not None and letter[1] == "loose letter" and any(map(LETTERED.search, choices)):
        letter = None
    if letter is not None:
        return _with_its_text(text, letter, choices)
    spoken = [] if is_formula(text) else mentioned_options(text, choices)
    return (spoken[0], "mention") if len(spoken) == 1 else None


def _with_its_text(text: str, letter: tuple[int, str], choices: tuple[str, ...]) -> tuple[int, str]:
    """A letter with the words beside it: they agree with it, or they contradict it."""
    place, rule = letter
    if rule == "letter" and (beside := BEHIND_LETTER.match(text)):
        named = _named_by(beside[2], choices, place)
        if named is not None and named != place:
            # "A: blue" means blue; "(C) blue" contradicts itself
            return (named, "text") if beside[1] else (place, "letter against text")
        return place, "letter and text" if named == place else rule
    if rule == "bracketed letter" and len(text) <= LABEL:
        spoken = mentioned_options(BRACKETED.sub(" ", text), choices)
        if len(spoken) == 1:
            return place, "letter and text" if spoken[0] == place else "letter against text"
    if rule == "loose letter" and len(spoken := mentioned_options(text[:2000], choices)) == 1 and spoken[0] != place:
        return spoken[0], "mention"
    return place, rule


def _named_by(text: str, choices: tuple[str, ...], letter: int) -> int | None:
    """The option that the words beside a letter name; None if they name none or several."""
    text = text.strip(" .。*`\"'")
    text = text.removesuffix("}") if text.count("}") > text.count("{") else text
    if not text:
        return None
    if words_of(text) == words_of(choices[letter]):
        return letter
    if re.fullmatch(r"\(?[A-Z]\)?", text):
        place = LETTERS.index(text.strip("()"))
        return place if place < len(choices) else None
    found = [place for place, choice in enumerate(choices) if equivalent(choice, text)] if is_formula(text) else []
    found = found or equal_options(text, choices) or ([] if is_formula(text) else mentioned_options(text, choices))
    return found[0] if len(found) == 1 else None


LABEL = 60
"""Longest answer, in characters, in which words beside a letter in brackets are its option's."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
ORDINAL = re.compile(rf"(?:the\s+)?({'|'.join(ORDINALS)}|last)\s+(?:option|choice|answer|one)\W*", re.IGNORECASE)
SMALL = re.compile(r"^\(?[a-j][).](?=\s+\S|\))")
"""A small letter before its option's text."""
MATHEMATICAL = re.compile(r"\d|\\|\^")
COMMAND = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s?\{[^{}]*\}|\\[a-zA-Z]+")
WORDED = re.compile(r"[A-Za-z]{3,}|\(?[A-J]\)|[\u4e00-\u9fff]")


def is_formula(text: str) -> bool:
    """Whether a text is mathematics or a number without words around it."""
    if len(text) > 200 or not MATHEMATICAL.search(text):
        return False
    return not WORDED.search(COMMAND.sub(" ", text))


def letter_in(text: str, count: int) -> tuple[int, str] | None:
    """Finds the option named by its letter: alone, first, in brackets, after "option", or at the end of a clause."""
    allowed = set(LETTERS[:count])
    if re.fullmatch(r"[(（\[{]?\s*[A-Za-z]\s*[)）\]}]?\s*[.:]?", text):
        letter = text.strip("(（[{)）]}.: ").upper()
        return (LETTERS.index(letter), "letter") if letter in allowed else None
    if ordinal := ORDINAL.fullmatch(text):
        place = ORDINALS.index(ordinal[1].lower()) if ordinal[1].lower() in ORDINALS else count - 1
        return (place, "ordinal") if place < count else None
    text = SMALL.sub(lambda match: match[0].upper(), text)
    leading = LEADING.match(text)
    if leading and is_denied("", text[leading.end() : leading.end() + 40]):
        leading = None
    if leading and leading[1] in allowed and not (leading[1] in "AI" and re.match(r"[\s(]*[AI]\s+[a-z]", text)):
        others = {match[1] for match in BRACKETED.finditer(text[leading.end() :])} & allowed - {leading[1]}
        if not others and not re.match(r"\s*(?:,|and|or|/|&)\s*[A-Z]\b", text[leading.end() :]):
            return LETTERS.index(leading[1]), "letter"
    for pattern, rule in (
        (BRACKETED, "bracketed letter"),
        (NAMED, "named letter"),
        (ALONE, "loose letter"),
    ):
        found = [
            match
            for match in pattern.finditer(text)
            if match[1].upper() in allowed
            and not (rule == "loose letter" and BESIDE.search(text[max(0, match.start() - 12) : match.start()]))
            and not PREFERRED.search(text[max(0, match.start() - 15) : match.start()])
            and not is_denied(text[max(0, match.start() - 25) : match.start()], text[match.end() : match.end() + 40])
        ]
        letters = {match[1].upper() for match in found}
        if len(letters) == 1:
            return LETTERS.index(letters.pop()), rule
        if letters:
            return None
    return None
