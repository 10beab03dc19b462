"""Decides whether a response is right. The verdict is typed and names the rule behind it.

The right answer's type is settled once. The response's answer is found, freed from what keeps words from being an
answer, and compared by that type.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from mpo_lightning.answers.question import Extraction, Kind, Question, Verdict
from mpo_lightning.answers.response import choices as options
from mpo_lightning.answers.response.announcements import Announcement, announcements, is_disowned
from mpo_lightning.answers.response.corrections import corrected, takes_back
from mpo_lightning.answers.response.extract import announced, clean, conclusion, is_refusal, last_line
from mpo_lightning.answers.response.mentions import marked_option, mentioned_options
from mpo_lightning.answers.response.number import IN_BRACKETS, SPAN, number_in
from mpo_lightning.answers.response.prose import choice_of_prose, is_listing
from mpo_lightning.answers.response.qualifiers import (
    EXCEPT,
    VAGUE,
    is_bound,
    is_denied,
    offers_alternative,
    without_aside,
    without_bounds,
    without_cause,
)
from mpo_lightning.answers.response.readings import gold_reading, is_worded, readings
from mpo_lightning.answers.response.yes_no import BUT_YES, is_both
from mpo_lightning.answers.typed import Type, equivalent, type_of
from mpo_lightning.answers.values.normal import normal
from mpo_lightning.answers.values.numbers import Number, find_numbers, mantissa_exponent, parse_number, plain
from mpo_lightning.answers.values.units import units_differ
from mpo_lightning.answers.values.words import words_of

WORDS = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")
SHORT_REFUSAL = 100
"""Longest answer, in characters, that is a refusal even if it also contains a guess."""
SHORT = 80
"""Longest response, in characters, that is read as an answer though it announces none."""


def check(response: str, question: Question) -> Verdict:
    """Decides whether a response answers a question.

    Args:
        response: the model's response.
        question: the question and its right answer.

    Returns:
        Correct is True or False; None if no answer is found or it cannot be compared with the right one, as when the
        response states several. A refusal is wrong.
    """
    question = settled(question)
    if question.kind is not Kind.CHOICE and type_of(question.gold) is Type.NOTHING:
        return Verdict(None, "", None, "unusable right answer", confidence=0.0)
    text = clean(response)
    if not text:
        return Verdict(False, "", None, "empty", confidence=0.99)
    if (rest := corrected(text, no_is_an_answer="no" in map(words_of, question.choices))) is not None:
        text = rest.strip()  # what the response retracts does not count
    said = announcements(text)
    if not said and is_disowned(text):
        return Verdict(None, "", None, "not its own answer", confidence=0.5)
    verdict = _decide(text, question)
    if verdict.correct is not None and any(
        _decide(other, question).correct is (not verdict.correct) for other in _rivals(text, said)
    ):
        # such as \boxed{8} and "Final answer: 7"
        return Verdict(None, verdict.extraction, verdict.prediction, f"{verdict.rule}/contradicted", confidence=0.5)
    return verdict


@lru_cache(maxsize=4096)
def settled(question: Question) -> Question:
    """A question in plain form: without letters before its options' texts, and a choice if its answer is an option."""
    choices = tuple(normal(choice) for choice in question.choices)
    lettered = [
        re.match(rf"\s*\(?{letter}[.):]\s*(?=\S)", choice)
        for letter, choice in zip(options.LETTERS, choices, strict=False)
    ]
    if choices and all(lettered):
        choices = tuple(choice[match.end() :] for choice, match in zip(choices, lettered, strict=True) if match)
    plainer = replace(question, gold=normal(question.gold), choices=choices)
    is_option = question.kind in (Kind.TEXT, Kind.EXPRESSION) and choices and gold_choice(plainer) is not None
    return replace(plainer, kind=Kind.CHOICE) if is_option else plainer


MOST_RIVALS = 6


def _rivals(text: str, said: Sequence[Announcement]) -> list[str]:
    """The answers announced beside the last one, unless the text between takes them back.

    A formal one (a box, "Final answer:") is not rivalled by a passing "the answer is".
    """
    if not said:
        return []
    last = said[-1]
    formal = last.rule != "announced"
    found = []
    for one, following in zip(said[-2::-1], said[:0:-1], strict=False):
        if (one.rule != "announced" or not formal) and not takes_back(text[one.end : max(one.end, last.start)]):
            answer = one.text if one.rule == "boxed" else one.text[: max(0, following.start - one.end)].strip(" .*")
            found += [answer] * (answer.lower() not in ("", "the", "my", "our"))
    return list(dict.fromkeys(found))[:MOST_RIVALS]


def _decide(text: str, question: Question) -> Verdict:
    if question.kind is Kind.CHOICE:
        return _check_choice(text, question)
    if question.kind in (Kind.INTEGER, Kind.FLOAT):
        return _check_number(text, question)
    return _check_list(text, question) if question.kind is Kind.LIST else _check_value(text, question)


def _check_choice(text: str, question: Question) -> Verdict:
    if len(question.choices) == 2:
        text = BUT_YES.sub(" ", text)
    said = announced(text)
    if said and (several := _several_options(said.text, question.choices)):
        return Verdict(None, said.text, None, f"{said.rule}/{several}", confidence=0.5)
    found = options.choice_in(said.text, question.choices) if said else None
    if said and not found:
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
    if rule == "letter against text" and place == gold:
        return Verdict(None, said.text if said else "", None, rule, confidence=0.5)
    right = None if gold is None else place == gold or _same_option(question.choices[place], question.choices[gold])
    source = said or Extraction(question.choices[place], "prose", 0.85)
    return Verdict(
        right,
        source.text,
        options.LETTERS[place],
        f"{source.rule}/{rule}",
        confidence=round(source.confidence * confidence, 3),
    )


def _several_options(said: str, choices: tuple[str, ...]) -> str | None:
    """Why an announced answer does not settle on one option, such as "B, or possibly A"; None if it does."""
    if any(words_of(said) == words_of(choice) for choice in choices):
        return None
    if EXCEPT.search(said):
        return "all but one"
    if set(map(words_of, choices)) <= {"yes", "no", "true", "false"}:
        return "both sides" if is_both(said) else None
    if not offers_alternative(said) and not options.EITHER.search(said):
        return None
    bare = without_cause(said)
    letters = set(options.NAMED_LETTER.findall(bare)) & set(options.LETTERS[: len(choices)])
    return "one of several" if len(letters) > 1 or len(mentioned_options(bare, choices)) > 1 else None


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
    named = re.fullmatch(r"(?:(?:option|choice|answer)\s+)?\(?([A-Za-z])\)?[.:]?(?:\s+(.+))?", gold, re.IGNORECASE)
    if named and (letter := named[1].upper()) in options.LETTERS[: len(texts)]:
        place = options.LETTERS.index(letter)
        if named[2] is None or words_of(named[2]) == words_of(texts[place]):
            return place
    same = [place for place, text in enumerate(texts) if words_of(text) == words_of(gold)]
    return same[0] if same else None


def _check_number(text: str, question: Question) -> Verdict:
    said = announced(text)
    if said is not None and offers_alternative(said.text):
        numbers = {number.value for number in find_numbers(without_cause(said.text))}
        if len(numbers) > 1:
            return Verdict(None, said.text, None, f"{said.rule}/one of several", confidence=0.5)
    if said is not None and VAGUE.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/bound", confidence=0.5)
    found = number_in(said.text) if said else None
    if (
        found is None
        and said is not None
        and not is_bound(said.text)
        and equivalent(question.gold, said.text, question.precision)
    ):
        return Verdict(True, said.text, question.gold, f"{said.rule}/expression", confidence=said.confidence)
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
                numbers_left = find_numbers(without_bounds(text))
                said, found = Extraction(text[-200:], "last number", 0.6), numbers_left[-1] if numbers_left else None
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
        share = found.percent and not gold.percent and question.kind is Kind.FLOAT
        return None if share else True  # 0.5% for 0.5
    if question.kind is Kind.FLOAT and question.precision is not None:
        # 6.63e-34 is rounded in its mantissa.
        scale = Fraction(10) ** mantissa_exponent(question.gold)
        one, other = found.value / scale, gold.value / scale
        if _near(one, other, question.precision) and round(other, question.precision) != 0:
            return round(one, question.precision) == round(other, question.precision)
    return None if gold.percent and not found.percent and gold.value == 100 * found.value else False


def _near(one: Fraction, other: Fraction, decimals: int) -> bool:
    """Whether two numbers differ by at most one unit of the last decimal. Integer arithmetic keeps it fast."""
    difference = abs(one.numerator * other.denominator - other.numerator * one.denominator)
    return difference * 10**decimals <= one.denominator * other.denominator


LIST = re.compile(r"(?P<before>\d\s*[*×/-]\s*)?[\[({]([^\[\](){}]*\d[^\[\](){}]*)[\])}]\s*(?P<behind>[-+*/^]\s*\d)?")
COMMA = re.compile(r"(?<=\d),(?=\d)")


def _check_list(text: str, question: Question) -> Verdict:
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
            confidence=0.5,
        )
    prediction = "[" + ", ".join(map(plain, found)) + "]"
    rule, confidence = (said.rule, said.confidence) if said else ("text", 0.7)
    return Verdict(found == gold, source, prediction, f"{rule}/list", confidence=confidence)


def _brackets(text: str) -> list[str]:
    """The bracketed lists of a text that are not denied."""
    return [
        match[2]
        for match in LIST.finditer(text)
        if not is_denied(text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 40])
    ]


def _check_value(text: str, question: Question) -> Verdict:
    """Compares an answer that is a formula, a number, several joined numbers or words."""
    said = announced(text)
    if said is None:
        if len(text) <= SHORT:
            said = Extraction(text, "short", 0.9)
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal", confidence=0.9)
        else:
            lines = [line for line in text.split("\n") if line.strip()]
            said = conclusion(text) or Extraction(lines[-1], "last line", 0.7)
    gold = gold_reading(question.gold)
    if len(said.text) <= SHORT_REFUSAL and is_refusal(said.text) and not is_refusal(question.gold):
        return Verdict(False, said.text, None, f"{said.rule}/refusal", confidence=0.9)
    words, right_words = WORDS.sub(r" \1 ", said.text), WORDS.sub(r" \1 ", question.gold)
    if is_bound(words, signs=False) and not is_bound(right_words, signs=False):
        return Verdict(None, said.text, None, f"{said.rule}/bound", confidence=0.5)
    kind = type_of(gold)
    if offers_alternative(words) and not _is_several(gold) and not offers_alternative(right_words):
        return Verdict(None, said.text, None, f"{said.rule}/one of several", confidence=0.5)
    if kind in (Type.WORDS, Type.PARTS):
        return _compared(said, gold, kind)
    for candidate in (found := readings(said.text)):
        right = equivalent(gold, candidate, question.precision)
        if right and (units_differ(gold, candidate) or units_differ(gold, said.text)):
            return Verdict(None, said.text, candidate, f"{said.rule}/another unit", confidence=0.5)
        if right:
            return Verdict(True, said.text, candidate, f"{said.rule}/expression", confidence=said.confidence)
    return _unequal(said, gold, found, question.precision)


def _is_several(gold: str) -> bool:
    """Whether a right answer has several values, which "or" may join."""
    return bool(re.search(r",|;|\\pm|±|\\text\s*\{\s*(?:and|or)|\b(?:and|or)\b|∪|\\cup|\\neq|[<>≤≥]|\\[lg]eq?", gold))


def _compared(said: Extraction, gold: str, kind: Type) -> Verdict:
    """The verdict on words or joined numbers: the whole answer, without its aside, behind its last "is"."""
    whole = said.text.strip().strip("*` ")
    bare = without_aside(whole)
    candidates = list(dict.fromkeys([whole, bare, *readings(bare)]))
    verdicts = [equivalent(gold, candidate) for candidate in candidates]
    if True in verdicts:
        return Verdict(True, said.text, words_of(gold), f"{said.rule}/{kind}", confidence=said.confidence)
    wrong = verdicts[1 if len(verdicts) > 1 and bare != whole else 0] is False and None not in verdicts
    confidence = said.confidence if wrong else 0.5
    return Verdict(False if wrong else None, said.text, words_of(bare)[:200], f"{said.rule}/{kind}", confidence)


def _unequal(said: Extraction, gold: str, found: list[str], precision: int | None) -> Verdict:
    """The verdict on an answer none of whose readings equals the right one.

    A number among words is read as in `_check_number`; other words leave the verdict undecided.
    """
    if any(units_differ(gold, reading) for reading in [said.text, *found]):
        return Verdict(None, said.text, None, f"{said.rule}/another unit", confidence=0.5)
    wanted = parse_number(gold)
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
        if not is_worded(reading) and equivalent(gold, reading, precision) is False:
            return Verdict(False, said.text, reading, f"{said.rule}/expression", confidence=said.confidence)
    return Verdict(None, said.text, None, f"{said.rule}/not comparable", confidence=0.4)
