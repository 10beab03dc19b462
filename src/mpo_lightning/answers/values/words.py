"""Compares answers in words: names, codes, chemical formulas, figures of geometry. Their letters do not multiply."""

import re
from difflib import SequenceMatcher
from functools import lru_cache

PLAIN = re.compile(r"[A-Za-z0-9. ]*")
ARTICLE = re.compile(r"^(?:a|an|the)\s")
LEAD = re.compile(
    r"^(?:(?:it|this|that|these|they|there|he|she)\s+(?:is|are|was|were|will|would|does|did)\s+|(?:it|that)'s\s+|due\s+|towards?\s+the\s+"
    r"|to\s+the\s+|on\s+|in\s+(?=\d))",
)
"""Words before an answer that add nothing to it."""
COPULA = re.compile(r"^[^:]{1,80}?(?:\s(?:is|are|was|were|called|named)\s|:\s)")
NO_COPULA = re.compile(r"\b(?:not|never|no|n't|wrong|unlike|if|than)\b|n't")
CHANGES = re.compile(
    r"(?:increase|decrease|rise|fall|grow|shrink|expand|contract|stay|remain|double|halve|melt|freeze|evaporate"
    r"|condense|accelerate|decelerate|decline|drop|heat|cool|slow|change|move)(?:s|es|d|ed|ing)?"
)
"""Verbs that answer what happens; their endings do not matter, as those of nouns do."""
ABBREVIATION = 3
"""Most letters of words that may be an abbreviation: TV, USA."""
ALIKE = 0.5
"""Share of common letters above which two words may be one in another spelling: gray and grey."""
NEGATIVE = re.compile(r"\b(?:no|none|not|nothing|never|un\w+|im\w+|zero)\b")
SHORT = 6
"""Most words of an answer whose other words make it wrong."""
FIGURE = re.compile(
    r"^(?:(?:the\s+)?(angle|segment|line(?:\s+segment)?|side|ray|triangle|point|chord|diagonal)\s+)?([a-z]{1,4})$"
)
GEOMETRY = re.compile(r"\\(angle|triangle|overline|overrightarrow|bar|odot)(?![a-z])\s*|[∠△]\s?")
NAMES = {"∠": "angle ", "△": "triangle ", "angle": "angle ", "triangle": "triangle "}


@lru_cache(maxsize=4096)
def words_of(text: str) -> str:
    """A text normalized for comparison: lower case, single spaces, no LaTeX, no leading article, no final points."""
    if PLAIN.fullmatch(text) and "egree" not in text:
        return ARTICLE.sub("", " ".join(text.lower().split()).strip(" ."))  # the same result as below, faster
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|mathbf|operatorname|ce)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\^?\s?\{?\\circ\}?|\\degree|°|º|\bdegrees?\b", "°", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√\1", text)
    text = re.sub(r"\\(?:left|right|[,;!: ])|\\(?=[%$#&_])", "", text).replace("~", " ")
    text = re.sub(r"[$`\"“”*{}]|\\(?=[a-z])", "", text).lower().replace("−", "-").replace("–", "-")
    text = re.sub(r"\s*([-+=/^,×√°()])\s*", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .。!,;:'")
    return ARTICLE.sub("", text)


def same_words(gold: str, said: str) -> tuple[bool | None, str]:
    """Whether words are the right ones, and how they were compared: as words, as a figure, or "words with more".

    Returns:
        True for the same words, without what only introduces them ("it is", "due", "point"); False for short ones that
        share nothing with the right ones; None for words around the right ones, a part of them, an abbreviation or
        another script.
    """
    wanted, found = words_of(gold).replace("_", ""), words_of(said).replace("_", "")
    if not wanted or not found:
        return None, "words"
    forms = _forms(found)
    if _goals(wanted) & forms:
        return True, "words"
    if CHANGES.fullmatch(wanted) and any(_stem(form) == _stem(wanted) for form in forms):
        return True, "words"
    if (figure := _same_figure(gold, said)) is not None:
        return figure, "figure"
    if any(re.match(rf"{re.escape(wanted)}\s+(?:in|at|on)\s", form) for form in forms):
        return True, "words with more"
    return (None if _may_be_the_same(wanted, found) else False), "words"


def _may_be_the_same(wanted: str, found: str) -> bool:
    """Whether other words may still mean the same: a part, an abbreviation, another spelling, script or form."""
    if len(found.split()) > SHORT or wanted.isascii() != found.isascii():
        return True
    if not wanted.isascii():
        return bool(set(wanted) & set(found))  # 北京 and 北京市
    if any(mark.isdigit() for mark in wanted + found) or (NEGATIVE.search(wanted) and NEGATIVE.search(found)):
        return True
    one, other = (re.sub(r"[^a-z]", "", words) for words in (wanted, found))
    if min(len(one), len(other)) <= ABBREVIATION or one in other or other in one or sorted(one) == sorted(other):
        return True
    stems = [{_stem(word) for word in re.findall(r"[a-z]+", words)} for words in (wanted, found)]
    letters = ["".join(word[0] for word in words.split()) for words in (wanted, found)]
    abbreviated = one == letters[1] or other == letters[0] or one[:3] == other[:3]
    return bool(stems[0] & stems[1]) or abbreviated or SequenceMatcher(None, one, other).ratio() > ALIKE


def _goals(wanted: str) -> set[str]:
    """The right words, also without a label: "B. blue" is B or blue, "Option B" is B."""
    bare = re.sub(r"^(?:option|choice|answer)\s+\(?([a-j])\)?$", r"\1", wanted)
    labelled = re.match(r"\(?([a-j])[.):]\)?\s*(.{2,})$", wanted)
    return {wanted, bare, *(labelled.groups() if labelled else ())}


def _forms(found: str) -> set[str]:
    """An answer's words, also without what introduces them."""
    forms = {found, ARTICLE.sub("", LEAD.sub("", found)), re.sub(r"^\(?[a-j][.):]\)?\s*(?=\w\w)", "", found)}
    if (copula := COPULA.match(found)) and not NO_COPULA.search(copula[0]):
        behind = found[copula.end() :]
        forms |= {ARTICLE.sub("", behind), ARTICLE.sub("", LEAD.sub("", behind))}
    return {form for form in forms if not NO_COPULA.match(form)}


def _stem(word: str) -> str:
    return re.sub(r"(?<=[a-z]{3})(?:ing|ed|es|s|d|e)$", "", word)


def _same_figure(gold: str, said: str) -> bool | None:
    """Compares names of angles, segments, triangles and points; None if one of the texts is none.

    Segment AB is BA and angle ABC is CBA; a triangle's vertices have no order.
    """
    found = []
    for text in (gold, said):
        text = GEOMETRY.sub(lambda match: NAMES.get(match[1] or match[0].strip(), " "), text)
        found.append(FIGURE.match(" ".join(re.sub(r"[$\\{}.]", " ", text).split()).replace(" ", " ").lower()))
        if not re.search(r"(?<![A-Za-z])[A-Z]{1,4}(?![A-Za-z])", text):
            return None
    if None in found:
        return None
    (kind, letters), (other_kind, others) = ((match[1] or "", match[2]) for match in found if match)
    kinds = {name.split()[0] for name in (kind, other_kind) if name}
    if not kinds:
        # Two bare capital letters name a segment.
        return letters == others or (len(letters) == 2 and letters == others[::-1]) or None
    if len(kinds) > 1 and kinds != {"line", "segment"}:
        return None
    if "triangle" in kinds:
        return sorted(letters) == sorted(others)
    return letters in (others, others[::-1])
