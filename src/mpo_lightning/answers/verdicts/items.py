"""The verdict on a list of numbers, whose order counts."""

import re
from fractions import Fraction

from mpo_lightning.answers.question import Question, Verdict
from mpo_lightning.answers.response.extract import announced, conclusion, is_refusal
from mpo_lightning.answers.response.qualifiers import is_bound, is_denied
from mpo_lightning.answers.values.numbers import find_numbers, plain
from mpo_lightning.answers.values.words import words_of

MOST_SHOWN = 50
LIST = re.compile(r"(?P<before>\d\s*[*×/-]\s*)?[\[({]([^\[\](){}]*\d[^\[\](){}]*)[\])}]\s*(?P<behind>[-+*/^]\s*\d)?")
BETWEEN = re.compile(r"\s*[,;]\s*(?:and\s+)?|\s+and\s+")
COMMA = re.compile(r"(?<=\d),(?=\d)")


def list_verdict(text: str, question: Question) -> Verdict:
    """Compares the list of numbers that a response gives with the right one, in order."""
    said = announced(text) or conclusion(text)
    if not find_numbers(question.gold):
        return _words_listed(said.text if said else text, question.gold, said.rule if said else "text")
    source = said.text if said else text
    brackets = _brackets(source) or _brackets(text)
    bare = brackets[-1] if brackets else source
    if ";" in bare and not re.search(r"\d,\s", bare):
        bare = COMMA.sub(".", bare)  # [0,5; 1,25]
    gold = [number.value for number in find_numbers(question.gold)]
    found: list[Fraction] = [] if not brackets and is_bound(source) else [item.value for item in find_numbers(bare)]
    if not found or any(match["behind"] or match["before"] for match in LIST.finditer(source)):
        return Verdict(
            False if is_refusal(text) else None,
            source,
            None,
            "refusal" if is_refusal(text) else "no list found",
        )
    if found != gold and found and "," in bare and len(gold) > len(found):
        found = [item.value for item in find_numbers(bare.replace(",", ", "))]  # [2,500] has two
    prediction = "[" + ", ".join(map(plain, found[:MOST_SHOWN])) + "]"
    rule = said.rule if said else "text"
    return Verdict(found == gold, source, prediction, f"{rule}/list")


def _words_listed(said: str, gold: str, rule: str) -> Verdict:
    """Compares a list of words in order; other words leave it undecided."""
    found, wanted = ([words_of(item) for item in BETWEEN.split(text.strip(" []"))] for text in (said, gold))
    return Verdict(True if found == wanted else None, said, ", ".join(found)[:200], f"{rule}/list")


def _brackets(text: str) -> list[str]:
    """The bracketed lists of a text that are not denied."""
    return [
        match[2]
        for match in LIST.finditer(text)
        if not is_denied(text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 40])
    ]
