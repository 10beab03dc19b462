"""The verdict on any other value: a formula, a number of an expression, several joined numbers, or words."""

import re
from dataclasses import replace

from mpo_lightning.answers.question import Extraction, Question, Verdict
from mpo_lightning.answers.response.extract import SHORT_REFUSAL, announced, conclusion, is_refusal
from mpo_lightning.answers.response.number import IN_BRACKETS, number_in
from mpo_lightning.answers.response.qualifiers import is_bound, offers_alternative, without_aside
from mpo_lightning.answers.response.readings import gold_reading, is_worded, readings
from mpo_lightning.answers.typed import Type, equivalent, type_of
from mpo_lightning.answers.values.numbers import parse_number, plain
from mpo_lightning.answers.values.parts import embedded_parts
from mpo_lightning.answers.values.units import units_differ
from mpo_lightning.answers.values.words import same_words, words_of

WORDS = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")
AND = re.compile(r",?\s+and\s+|,?\s*\\text\s*\{\s*and\s*\}\s*")
OUT_OF = re.compile(r"(\d+)\s+out\s+of\s+(?:the\s+)?(\d+)")
DECIMAL_COMMA = re.compile(r"\s*\d+,\d+\s*")
BRACKET = re.compile(r"[(\[{]")
LETTERED = re.compile(r"(?:^|\s)\(([A-J])\)\s")
OPTION_LABEL = re.compile(r"^\s*(?:\([A-J]\)|[A-J][.):])\s+(?=\S)")
"""The letter of an option before its text, where the question has no options."""
SHORT = 80
"""Longest response, in characters, that is read as an answer though it announces none."""


def value_verdict(text: str, question: Question) -> Verdict:
    """Compares an answer that is a formula, a number, several joined numbers or words."""
    said = announced(text)
    if said is None:
        if len(text) <= SHORT:
            said = Extraction(text, "short")
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal")
        else:
            lines = [line for line in text.split("\n") if line.strip()]
            said = conclusion(text) or Extraction(lines[-1], "last line")
    if len(set(LETTERED.findall(said.text))) > 1:
        return Verdict(None, said.text, None, f"{said.rule}/several options")
    said = replace(said, text=OPTION_LABEL.sub("", said.text))
    gold = question.gold if type_of(question.gold) is Type.WORDS else gold_reading(question.gold)
    if len(said.text) <= SHORT_REFUSAL and is_refusal(said.text) and not is_refusal(question.gold):
        return Verdict(False, said.text, None, f"{said.rule}/refusal")
    words, right_words = WORDS.sub(r" \1 ", said.text), WORDS.sub(r" \1 ", question.gold)
    if is_bound(words, signs=False) and not is_bound(right_words, signs=False):
        return Verdict(None, said.text, None, f"{said.rule}/bound")
    kind = type_of(gold)
    if offers_alternative(words) and not _is_several(gold) and not offers_alternative(right_words):
        return Verdict(None, said.text, None, f"{said.rule}/one of several")
    if kind in (Type.WORDS, Type.PARTS):
        return _compared(said, gold, kind)
    for candidate in (found := [*readings(said.text), *_share(said.text, gold)]):
        right = equivalent(gold, candidate, question.precision)
        if right and (units_differ(gold, candidate) or units_differ(gold, said.text)):
            return Verdict(None, said.text, candidate, f"{said.rule}/another unit")
        if right:
            return Verdict(True, said.text, candidate, f"{said.rule}/{_how_equal(gold, candidate)}")
    return _unequal(said, gold, found, question.precision)


def _share(said: str, gold: str) -> list[str]:
    """The fraction in "3 out of 8", where the right answer is one."""
    found = OUT_OF.fullmatch(said.strip(" .")) if "out of" in said else None
    return [f"{found[1]}/{found[2]}"] if found and "/" in gold + "/" * ("frac" in gold) else []


def _how_equal(gold: str, candidate: str) -> str:
    """How equal answers were compared: as they are, in another order, or with the comma of one as a decimal point."""
    if DECIMAL_COMMA.fullmatch(gold) and "." in candidate:
        return "decimal comma"
    return "in another order" if _is_reordered(gold, candidate) else "expression"


def _is_reordered(gold: str, candidate: str) -> bool:
    """Whether equal lists without brackets have another order, which counts in some questions ("respectively")."""
    gold, candidate = (AND.sub(", ", text) for text in (gold, candidate))
    if "," not in gold or "," not in candidate or BRACKET.search(gold + candidate):
        return False
    return equivalent(f"({gold})", f"({candidate})") is not True


def _is_several(gold: str) -> bool:
    """Whether a right answer has several values, which "or" may join."""
    return bool(re.search(r",|;|\\pm|±|\\text\s*\{\s*(?:and|or)|\b(?:and|or)\b|∪|\\cup|\\neq|[<>≤≥]|\\[lg]eq?", gold))


def _compared(said: Extraction, gold: str, kind: Type) -> Verdict:
    """The verdict on words or joined numbers: the whole answer, without its aside, behind its last "is"."""
    whole = said.text.strip().strip("*` ")
    bare = without_aside(whole)
    verdicts = []
    embedded = embedded_parts(bare) if kind is Type.PARTS else []
    for candidate in dict.fromkeys([whole, bare, *readings(bare), *embedded]):
        words = same_words(gold, candidate) if kind is Type.WORDS else (None, str(kind))
        right, rule = (equivalent(gold, candidate), words[1]) if words[0] is None else words
        if right:
            return Verdict(True, said.text, words_of(gold), f"{said.rule}/{rule}")
        verdicts.append(right)
    wrong = verdicts[min(len(verdicts) - 1, bare != whole)] is False and None not in verdicts
    return Verdict(False if wrong else None, said.text, words_of(bare)[:200], f"{said.rule}/{kind}")


def _unequal(said: Extraction, gold: str, found: list[str], precision: int | None) -> Verdict:
    """The verdict on an answer none of whose readings equals the right one.

    A number among words is read as in `number_verdict`; other words leave the verdict undecided.
    """
    if any(units_differ(gold, reading) for reading in [said.text, *found]):
        return Verdict(None, said.text, None, f"{said.rule}/another unit")
    wanted = parse_number(gold)
    part = conclusion(said.text) if said.rule == "short" else said
    if wanted is not None and part is not None and (is_worded(part.text) or IN_BRACKETS.match(part.text)):
        number = number_in(part.text)
        if number is None:
            return Verdict(None, said.text, None, f"{said.rule}/no single number")
        return Verdict(
            number.value == wanted.value,
            said.text,
            plain(number.value),
            f"{said.rule}/number",
        )
    for reading in found:
        if not is_worded(reading) and equivalent(gold, reading, precision) is False:
            return Verdict(False, said.text, reading, f"{said.rule}/expression")
    return Verdict(None, said.text, None, f"{said.rule}/not comparable")
