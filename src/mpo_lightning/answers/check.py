"""Decides whether a response is right. The verdict is typed and names the rule behind it."""

import re
from fractions import Fraction

from mpo_lightning.answers.mathematics.equality import equivalent
from mpo_lightning.answers.question import Extraction, Kind, Question, Verdict
from mpo_lightning.answers.response import choices as options
from mpo_lightning.answers.response.extract import (
    announced,
    clean,
    conclusion,
    is_refusal,
    last_line,
    other_announcement,
)
from mpo_lightning.answers.response.mentions import marked_option, words_of
from mpo_lightning.answers.response.number import IN_BRACKETS, SPAN, number_in
from mpo_lightning.answers.response.prose import choice_of_prose, is_listing
from mpo_lightning.answers.response.qualifiers import DENIAL, corrected, is_bound, is_denied, without_bounds
from mpo_lightning.answers.response.readings import is_worded, readings
from mpo_lightning.answers.response.yes_no import BUT_YES
from mpo_lightning.answers.values.numbers import Number, find_numbers, parse_number, plain
from mpo_lightning.answers.values.units import units_differ

WORDS = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")
SHORT_REFUSAL = 100
"""Longest answer, in characters, that is a refusal even if it also contains a guess."""


def check(response: str, question: Question) -> Verdict:
    """Decides whether a response answers a question.

    Args:
        response: the model's response.
        question: the question and its right answer.

    Returns:
        Correct is True or False; None if no answer is found or it cannot be compared with the right one. A refusal is
        wrong.
    """
    text = clean(response)
    if not text:
        return Verdict(False, "", None, "empty", confidence=0.99)
    if (rest := corrected(text)) is not None and len(rest.strip()) > 3:
        text = rest.strip()  # what the response retracts does not count
    verdict = _decide(text, question)
    if verdict.correct is not None and (other := other_announcement(text, verdict.rule)) is not None:
        second = _decide(other, question)
        if second.correct is (not verdict.correct):
            # such as \boxed{8} and "Final answer: 7"
            return Verdict(None, verdict.extraction, verdict.prediction, f"{verdict.rule}/contradicted", confidence=0.5)
    return verdict


def _decide(text: str, question: Question) -> Verdict:
    if question.kind is Kind.CHOICE:
        return _check_choice(text, question)
    if question.kind in (Kind.INTEGER, Kind.FLOAT):
        return _check_number(text, question)
    if question.kind is Kind.LIST:
        return _check_list(text, question)
    return _check_text(text, question) if question.kind is Kind.TEXT else _check_expression(text, question)


def _check_text(text: str, question: Question) -> Verdict:
    """Compares words: they are equal, or a short answer contains the right ones.

    Other words are wrong in an answer of one or two words, and undecided in running text.
    """
    verdict = _check_expression(text, question)
    if verdict.correct:
        return verdict
    said = announced(text) or (Extraction(text, "short", 0.9) if len(text) <= 80 else conclusion(text))
    if said is None or is_refusal(said.text):
        return Verdict(False, "", None, "refusal", confidence=0.9)
    found, wanted = words_of(said.text), words_of(question.gold)
    if found == wanted:
        return Verdict(True, said.text, found, f"{said.rule}/words", confidence=said.confidence)
    if re.search(r"\bor\b", found) and not re.search(r"\bor\b", wanted):
        return Verdict(None, said.text, found[:200], f"{said.rule}/one of several", confidence=0.5)
    if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", found) and not DENIAL.search(found):
        return Verdict(True, said.text, wanted, f"{said.rule}/words within", confidence=0.7)
    return Verdict(
        False if len(found.split()) <= 2 else None, said.text, found[:200], f"{said.rule}/other words", confidence=0.6
    )


def _check_choice(text: str, question: Question) -> Verdict:
    if len(question.choices) == 2:
        text = BUT_YES.sub(" ", text)
    said = announced(text)
    found = options.choice_in(said.text, question.choices) if said else None
    if said and not found and len(said.text) > 1:
        found = choice_of_prose(said.text, question.choices)
    if (
        found is None
        and said
        and (said.rule == "boxed" or options.is_formula(said.text) or options.LETTER_LIST.fullmatch(said.text))
    ):
        # A definite answer that is none of the options: whatever else the text mentions is not the answer.
        return Verdict(None, said.text, None, f"{said.rule}/none of the options", confidence=0.6)
    if found is None:
        said = last_line(text)
        found = options.choice_in(said.text, question.choices) if said else None
    if found is None:
        said = None
        if len(text) < 200 and not is_listing(text) and marked_option(text, len(question.choices)) is None:
            found = options.choice_in(text, question.choices)
        found = found or choice_of_prose(text, question.choices)
    if found is None:
        if is_refusal(text):
            return Verdict(False, "", None, "refusal", confidence=0.9)
        return Verdict(None, said.text if said else "", None, "no option found", confidence=0.5)
    place, rule, confidence = found
    gold = gold_choice(question)
    right = None if gold is None else place == gold or _same_option(question.choices[place], question.choices[gold])
    source = said or Extraction(question.choices[place], "prose", 0.85)
    return Verdict(
        right,
        source.text,
        options.LETTERS[place],
        f"{source.rule}/{rule}",
        confidence=round(source.confidence * confidence, 3),
    )


def _same_option(one: str, other: str) -> bool:
    """Whether two options have the same words, as in data sets that repeat an option."""
    if len(one) != len(other) and abs(len(one) - len(other)) > 12:
        return False
    return words_of(one) == words_of(other)


def gold_choice(question: Question) -> int | None:
    """The index of the right option; None if the right answer is not among the options."""
    texts = [choice.strip() for choice in question.choices]
    gold = question.gold.strip()
    if gold in texts:
        return texts.index(gold)
    letter = gold.strip("()").upper()
    return options.LETTERS.index(letter) if len(letter) == 1 and letter in options.LETTERS[: len(texts)] else None


def _check_number(text: str, question: Question) -> Verdict:
    said = announced(text)
    found = number_in(said.text) if said else None
    if found is None and said is not None and SPAN.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/range", confidence=0.5)
    if said is not None and is_refusal(said.text) and (found is None or len(said.text) <= SHORT_REFUSAL):
        return Verdict(
            False if found is None else None,
            said.text,
            None,
            f"{said.rule}/refusal",
            confidence=0.9 if found is None else 0.5,
        )
    if found is None and said is not None and any(mark.isdigit() for mark in said.text):
        # An announced answer that is not a single number.
        return Verdict(None, said.text, None, f"{said.rule}/no single number", confidence=0.5)
    if found is None:
        said = said if said is not None and said.rule == "boxed" else None
        if (whole := parse_number(text)) is not None:
            said, found = Extraction(text, "number alone", 0.98), whole
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal", confidence=0.9)
        else:
            said = conclusion(text)
            found = number_in(said.text) if said else None
            if found is None:
                numbers = find_numbers(without_bounds(text))
                said, found = Extraction(text[-200:], "last number", 0.6), numbers[-1] if numbers else None
    if found is None or said is None:
        return Verdict(None, said.text if said else "", None, "no number found", confidence=0.5)
    if not question.gold[-1:].isdigit() and units_differ(question.gold, said.text):
        return Verdict(None, said.text, plain(found.value), f"{said.rule}/another unit", confidence=0.5)
    return Verdict(
        _same_number(found, question), said.text, plain(found.value), f"{said.rule}/number", confidence=said.confidence
    )


def _same_number(found: Number, question: Question) -> bool | None:
    gold = parse_number(question.gold)
    if gold is None:
        return None
    if found.value == gold.value:
        return True
    if (
        question.kind is Kind.FLOAT
        and question.precision is not None
        and _near(found.value, gold.value, question.precision)
    ):
        return round(found.value, question.precision) == round(gold.value, question.precision)
    return None if gold.percent and not found.percent and gold.value == 100 * found.value else False


def _near(one: Fraction, other: Fraction, decimals: int) -> bool:
    """Whether two numbers differ by at most one unit of the last decimal. Integer arithmetic keeps it fast."""
    difference = abs(one.numerator * other.denominator - other.numerator * one.denominator)
    return difference * 10**decimals <= one.denominator * other.denominator


def _check_list(text: str, question: Question) -> Verdict:
    said = announced(text) or conclusion(text)
    source = said.text if said else text
    brackets = _brackets(source) or _brackets(text)
    gold = [number.value for number in find_numbers(question.gold)]
    found: list[Fraction] = [number.value for number in find_numbers(brackets[-1] if brackets else source)]
    if not found:
        return Verdict(
            False if is_refusal(text) else None,
            source,
            None,
            "refusal" if is_refusal(text) else "no list found",
            confidence=0.5,
        )
    prediction = "[" + ", ".join(map(plain, found)) + "]"
    return Verdict(found == gold, source, prediction, f"{said.rule if said else 'text'}/list", confidence=0.9)


def _brackets(text: str) -> list[str]:
    """The bracketed lists of a text that are not denied."""
    found = re.finditer(r"[\[(]([^\[\]()]*\d[^\[\]()]*)[\])]", text)
    return [
        match[1]
        for match in found
        if not is_denied(text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 40])
    ]


def _check_expression(text: str, question: Question) -> Verdict:
    said = announced(text)
    if said is None:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(text) <= 80:
            said = Extraction(text, "short", 0.9)
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal", confidence=0.9)
        else:
            said = conclusion(text) or Extraction(lines[-1], "last line", 0.7)
    golds = readings(question.gold)
    if len(said.text) <= SHORT_REFUSAL and is_refusal(said.text) and not is_refusal(question.gold):
        return Verdict(None, said.text, None, f"{said.rule}/refusal", confidence=0.5)
    words = WORDS.sub(r" \1 ", said.text)
    if is_bound(words, signs=False) and not is_bound(WORDS.sub(r" \1 ", question.gold), signs=False):
        return Verdict(None, said.text, None, f"{said.rule}/bound", confidence=0.5)
    for candidate in (found := readings(said.text)):
        right = equivalent(golds[0], candidate, question.precision) if golds else None
        if right and units_differ(golds[0], candidate):
            return Verdict(None, said.text, candidate, f"{said.rule}/another unit", confidence=0.5)
        if right:
            return Verdict(True, said.text, candidate, f"{said.rule}/expression", confidence=said.confidence)
    return _unequal(said, golds, found, question.precision)


def _unequal(said: Extraction, golds: list[str], found: list[str], precision: int | None) -> Verdict:
    """The verdict on an answer none of whose readings equals the right one.

    A number among words is read as in `_check_number`; other words leave the verdict undecided.
    """
    if golds and any(units_differ(golds[0], reading) for reading in [said.text, *found]):
        return Verdict(None, said.text, None, f"{said.rule}/another unit", confidence=0.5)
    wanted = parse_number(golds[0]) if golds else None
    part = conclusion(said.text) if said.rule == "short" else said
    if wanted is not None and part is not None and (is_worded(part.text) or IN_BRACKETS.match(part.text)):
        number = number_in(part.text)
        if number is None:
            return Verdict(None, said.text, None, f"{said.rule}/no single number", confidence=0.5)
        return Verdict(
            number.value == wanted.value,
            said.text,
            plain(number.value),
            f"{said.rule}/number",
            confidence=said.confidence,
        )
    for reading in found:
        if not is_worded(reading) and equivalent(golds[0], reading, precision) is False:
            return Verdict(False, said.text, reading, f"{said.rule}/expression", confidence=said.confidence)
    return Verdict(None, said.text, None, f"{said.rule}/not comparable", confidence=0.4)
