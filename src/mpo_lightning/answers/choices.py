"""Which option a text means: by letter, by the option's words, by its number."""

import re
from functools import lru_cache

from mpo_lightning.answers.equality import equivalent
from mpo_lightning.answers.extract import CONCLUSION, is_refusal, sentences
from mpo_lightning.answers.hedges import DENIAL, EITHER, is_denied
from mpo_lightning.answers.numbers import find_numbers, parse_number

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER_LIST = re.compile(r"\(?[A-Z]\)?(?:\s*(?:,|;|/|&|and|or)\s*\(?[A-Z]\)?)+\.?")
BRACKETED = re.compile(r"[(（\[{]\s?([A-Z])\s?[)）\]}]")
LEADING = re.compile(
    r"^[\s\"'`(\[{（$]*(?:\\text\s?\{|\\mathrm\s?\{|\\textbf\s?\{)?\(?([A-Z])\)?(?=$|[\s.,:;)\]}）\"'`$\\—-])(?!\s+[a-z]{2,}\s[a-z]+\s[a-z])"
)
NAMED = re.compile(
    r"(?:\b(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer|[Ss]elect|[Cc]hoose|[Cc]hose|[Pp]ick)s?|选项|答案)\s*(?:is|of|:)?\s*\**"
    r"(?:(?=[(\[][A-Za-z][)\]])[(\[]|[\"'`]?(?=[A-Z]))([A-Za-z])(?![A-Za-z'’])"
)
PREFERRED = re.compile(r"\b(?:over|than)\s+(?:[Oo]ption\s+)?[(]?$")
"""Another option was preferred to what follows."""
ALONE = re.compile(r"(?<![A-Za-z0-9∠△∆°'’.=+\-/*^_\\$])([A-Z])(?=$|[.,;:)\]。](?:\s|$)|\s*$)")


def choice_in(text: str, choices: tuple[str, ...]) -> tuple[int, str, float] | None:
    """The option that an answer's words mean, with the rule that says so and its confidence.

    Args:
        text: an answer, or a sentence that holds it.
        choices: texts of the options.
    """
    count = len(choices)
    text = text.strip().strip("`*\"' ")
    if not text or not count:
        return None
    # A letter is an option's text only where an option is as short.
    whole = _equal(text, choices) if len(text) > 3 or any(len(choice) < 6 for choice in choices) else []
    if len(whole) == 1:
        return whole[0], "text", 0.97
    if EITHER.search(text):
        return None
    if LETTER_LIST.fullmatch(text):
        return None
    if is_formula(text):
        same = [place for place, choice in enumerate(choices) if equivalent(choice, text)]
        if len(same) == 1:
            return same[0], "expression", 0.95
    letter = _letter(text, count)
    if letter is not None:
        spoken = _mentioned(text[:2000], choices) if letter[1] == "loose letter" else []
        if len(spoken) == 1 and spoken[0] != letter[0]:
            return spoken[0], "mention", 0.8
        return letter[0], letter[1], letter[2]
    spoken = [] if is_formula(text) else _mentioned(text, choices)
    if len(spoken) == 1:
        return spoken[0], "mention", 0.85
    return None


def is_formula(text: str) -> bool:
    """Whether a text is mathematics or a number without words around it."""
    bare = re.sub(r"\\(?:text|mathrm|mbox|textbf)\s?\{[^{}]*\}|\\[a-zA-Z]+", " ", text)
    return (
        len(text) <= 200 and bool(re.search(r"\d|\\|\^", text)) and not re.search(r"[A-Za-z]{3,}|\(?[A-H]\)|[\u4e00-\u9fff]", bare)
    )


def _letter(text: str, count: int) -> tuple[int, str, float] | None:
    allowed = set(LETTERS[:count])
    if re.fullmatch(r"[(（\[{]?\s*[A-Za-z]\s*[)）\]}]?\s*[.:]?", text):
        letter = text.strip("(（[{)）]}.: ").upper()
        return (LETTERS.index(letter), "letter", 0.98) if letter in allowed else None
    leading = LEADING.match(text)
    if leading and is_denied("", text[leading.end() : leading.end() + 40]):
        leading = None
    if leading and leading[1] in allowed and not (leading[1] in "AI" and re.match(r"[\s(]*[AI]\s+[a-z]", text)):
        others = {match[1] for match in BRACKETED.finditer(text[leading.end() :])} & allowed - {leading[1]}
        if not others and not re.match(r"\s*(?:,|and|or|/|&)\s*[A-Z]\b", text[leading.end() :]):
            return LETTERS.index(leading[1]), "letter", 0.96
    for pattern, rule, confidence in (
        (BRACKETED, "bracketed letter", 0.93),
        (NAMED, "named letter", 0.9),
        (ALONE, "loose letter", 0.75),
    ):
        found = [
            match
            for match in pattern.finditer(text)
            if match[1].upper() in allowed
            and not PREFERRED.search(text[max(0, match.start() - 15) : match.start()])
            and not is_denied(text[max(0, match.start() - 25) : match.start()], text[match.end() : match.end() + 40])
        ]
        letters = {match[1].upper() for match in found}
        if len(letters) == 1:
            return LETTERS.index(letters.pop()), rule, confidence
        if letters:
            return None
    return None


@lru_cache(maxsize=4096)
def words_of(text: str) -> str:
    """A text as it is compared: small letters, one space, no LaTeX, no articles or points at the ends."""
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\^?\s?\{?\\circ\}?|\\degree|°|º|\bdegrees?\b", "°", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√\1", text)
    text = re.sub(r"\\(?:left|right|[,;!: ])|\\(?=[%$#&_])", "", text).replace("~", " ")
    text = re.sub(r"[$`\"“”*{}]|\\(?=[a-z])", "", text).lower().replace("−", "-").replace("–", "-")
    text = re.sub(r"\s*([-+=/^,×√°()])\s*", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .。!,;:'")
    return re.sub(r"^(?:a|an|the)\s", "", text)


def _equal(text: str, choices: tuple[str, ...]) -> list[int]:
    """Options that the whole text is: in words or as a number."""
    if len(text) > 400:
        return []
    words = words_of(text)
    found = [place for place, choice in enumerate(choices) if words_of(choice) == words]
    if found or (number := parse_number(text)) is None:
        return found[:1]
    values = [parse_number(choice) for choice in choices]
    return [place for place, value in enumerate(values) if value is not None and value.value == number.value]


def _mentioned(text: str, choices: tuple[str, ...]) -> list[int]:
    """Options whose words stand in a text, those that are part of a longer one left out; several only where they are several."""
    words = f" {words_of(text)} "
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
            if wanted != "no" and is_denied(words[max(0, start - 25) : start], words[stop : stop + 40]):
                continue
            spans.append((start, stop, place))
        if numeric is not None and not any(span[2] == place for span in spans):
            spans += [
                (number.start, number.end, place)
                for number in find_numbers(words)
                if number.value == numeric.value and number.percent == numeric.percent
            ]
    inside = [
        one
        for one in spans
        if not any(other[0] <= one[0] and one[1] <= other[1] and other[1] - other[0] > one[1] - one[0] for other in spans)
    ]
    return sorted({place for _, _, place in inside})


YES = re.compile(r"[\s\"'*(]*(yes|no|true|false)\b", re.IGNORECASE)
LISTED = re.compile(r"^[ \t]*\(?([A-H])[).:][ \t][^\n]{0,200}$", re.MULTILINE)
"""Options repeated from the question."""
VERB = re.compile(r"(?:is|are|was|were|has|have|had|does|do|did|can|will|contains?|shows?|lies|there)\W*", re.IGNORECASE)
HAN_NO, HAN_YES = re.compile(r"^\W*(?:否|不|没有|没|错)"), re.compile(r"^\W*(?:是|有|对|可以|能|正确)")
BUT_YES = re.compile(r"\b(?:no\s+doubt|not\s+only|without\s+(?:a\s+)?doubt|no\s+question)\b", re.IGNORECASE)
"""Affirms with the words of a denial."""
UNSEEN = re.compile(
    r"\b(?:can\s?not|can't|do\s+not|don't|could\s?n't)\s+(?:see|find|spot|identify|detect|observe)\s+(?:a|an|any|the)\b",
    re.IGNORECASE,
)
"""Denies what was asked for; not a refusal."""
SAY = re.compile(r"\b(?:not|wrong\s+to\s+say|incorrect\s+to\s+say|isn't)\s+[\"']?(yes|no|true|false)\b", re.IGNORECASE)
DENIED = re.compile(
    r"\b(?:not|no|none|neither|nobody|nothing|nowhere|never|zero|absent|missing|without|lacks?|fails?\s+to|untrue|false|incorrect|wrong|cannot|can't|(?:is|are|do|does|did|has|have|was|were)n't)\b|\bequal\s+to\s+(?:the\s+(?:number|value)|that)",
    re.IGNORECASE,
)
CONDITION = re.compile(r"^(?:so\s+)?(?:if|when|since|as|because|although|while|given)\b[^,]*,\s*", re.IGNORECASE)
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


def choice_of_prose(text: str, choices: tuple[str, ...]) -> tuple[int, str, float] | None:
    """The option that running text means.

    A first line that is an option is the answer, its explanation behind it. Otherwise sentences that conclude are read first, then the first sentence of
    a short text, then the last ones backwards; of each what stands behind its condition ("if krill increased, ..."). A statement about a yes-or-no
    question affirms or denies.
    """
    if len(set(LISTED.findall(text))) > 1:
        text = LISTED.sub("\n", text).strip()
    first_line, _, rest = text.partition("\n")
    if rest.strip() and len(first_line) < 120 and (chosen := _letter(first_line, len(choices))) and chosen[1] == "letter":
        return chosen[0], "first line", 0.9
    found = sentences(text)
    concluding = [sentence for sentence in found[:-5:-1] if CONCLUSION.search(sentence)]
    ordered = list(dict.fromkeys([*concluding, *(found[:1] if len(text) < 700 else []), *found[:-5:-1]]))
    ordered = [sentence for sentence in ordered if UNSEEN.search(sentence) or not is_refusal(sentence)]
    sides = {choice.strip().lower(): place for place, choice in enumerate(choices)}
    if set(sides) in ({"yes", "no"}, {"true", "false"}):
        return _side(ordered, sides, is_refusal(text) and not UNSEEN.search(text)) or _first(ordered, choices)
    return _first(ordered, choices)


def _first(ordered: list[str], choices: tuple[str, ...]) -> tuple[int, str, float] | None:
    for sentence in ordered:
        if chosen := choice_in(sentence, choices):
            return chosen[0], chosen[1], min(chosen[2], 0.8)
        said = CONDITION.sub("", sentence)
        if not (len(said) < 80 and DENIAL.search(said)) and (place := _all_words(said, choices)) is not None:
            return place, "all words", 0.65
    return None


def is_statement(sentence: str) -> bool:
    """Whether words say something: three or more, with a verb among them."""
    words = sentence.split()
    return len(words) >= 3 and any(map(VERB.fullmatch, words))


def _side(ordered: list[str], sides: dict[str, int], refused: bool) -> tuple[int, str, float] | None:
    other = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
    for sentence in ordered:
        if (said := SAY.search(sentence)) and other[said[1].lower()] in sides:
            return sides[other[said[1].lower()]], "yes or no", 0.7
        if BUT_YES.search(sentence):
            continue
        if spoken := YES.match(sentence):
            word = spoken[1].lower()
            if word in sides:
                return sides[word], "yes or no", 0.9
    for sentence in ordered[:1]:
        for pattern, words_of_side in ((HAN_NO, {"no", "false"}), (HAN_YES, {"yes", "true"})):
            if pattern.match(sentence):
                return sides[next(iter(words_of_side & set(sides)))], "yes or no", 0.85
    ordered = [BUT_YES.sub(" ", sentence) for sentence in ordered]
    for sentence in ordered:
        words = re.findall(r"\b(?:" + "|".join(sides) + r")\b", sentence.lower())
        if len(set(words)) == 1:
            return sides[words[0]], "yes or no", 0.8
    for sentence in ordered:
        if not refused and (is_statement(sentence) or UNSEEN.search(sentence)) and not sentence.endswith(("?", ":", ",")):
            return (
                sides[
                    next(iter({"no", "false"} & set(sides)))
                    if DENIED.search(sentence) or UNSEEN.search(sentence)
                    else next(iter({"yes", "true"} & set(sides)))
                ],
                "statement",
                0.65,
            )
    return None


def _all_words(sentence: str, choices: tuple[str, ...]) -> int | None:
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
