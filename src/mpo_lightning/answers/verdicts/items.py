"""The verdict on a list of numbers, whose order counts."""

import re
from fractions import Fraction

from mpo_lightning.answers.question import Question, Verdict
from mpo_lightning.answers.response.extract import announced, conclusion, is_refusal
from mpo_lightning.answers.response.qualifiers import is_bound, is_denied
from mpo_lightning.answers.values.numbers import find_numbers, plain

LIST = re.compile(r"(?P<before>\d\s*[*×/-]\s*)?[\[({]([^\[\](){}]*\d[^\[\](){}]*)[\])}]\s*(?P<behind>[-+*/^]\s*\d)?")
COMMA = re.compile(r"(?<=\d),(?=\d)")


def list_verdict(text: str, question: Question) -> Verdict:
    """Compares the list of numbers that a response gives with the right one, in order."""
    said = announced(text) or conclusion(text)
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
    prediction = "[" + ", ".join(map(plain, found)) + "]"
    rule = said.rule if said else "text"
    return Verdict(found == gold, source, prediction, f"{rule}/list")


def _brackets(text: str) -> list[str]:
    """The bracketed lists of a text that are not denied."""
    return [
        match[2]
        for match in LIST.finditer(text)
        if not is_denied(text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 40])
    ]
