"""Is this response right? One typed decision, with the rule that made it."""

import re
from fractions import Fraction

from mpo_lightning.answers import choices as options
from mpo_lightning.answers.boxed import boxes
from mpo_lightning.answers.equality import equivalent
from mpo_lightning.answers.extract import announced, clean, conclusion, is_refusal
from mpo_lightning.answers.numbers import UNIT_POWER, Number, find_numbers, parse_number, plain
from mpo_lightning.answers.question import Kind, Question
from mpo_lightning.answers.readings import readings
from mpo_lightning.answers.verdict import Extraction, Verdict

OUT_OF = re.compile(r"\s+out\s+of\s+\S+")
NONE = re.compile(r"\bthere\s+(?:are|is|were|was)\s+no\b|^\W*none\b|^no\s+\w+\s+(?:are|is|were|was)\b", re.IGNORECASE)
RANGE = re.compile(r"\d\s*(?:to|or|~|–)\s*\d[\d.,]*[^\d]{0,30}$")
"""An answer that is a range is no number."""


def check(response: str, question: Question) -> Verdict:
    """Whether a response answers a question.

    Args:
        response: whatever a model said.
        question: with the right answer.

    Returns:
        True, False, or None where no answer is found or it cannot be compared with the right one. A refusal is wrong.
    """
    text = clean(response)
    if not text:
        return Verdict(False, "", None, "empty", 0.99)
    if question.kind is Kind.CHOICE:
        return _check_choice(text, question)
    if question.kind in (Kind.INTEGER, Kind.FLOAT):
        return _check_number(text, question)
    if question.kind is Kind.LIST:
        return _check_list(text, question)
    return _check_text(text, question) if question.kind is Kind.TEXT else _check_expression(text, question)


def _check_text(text: str, question: Question) -> Verdict:
    """Words: equal, or the right ones within a short answer. Other words are wrong as an answer of one or two, and undecided in running text."""
    verdict = _check_expression(text, question)
    if verdict.correct:
        return verdict
    said = announced(text) or (Extraction(text, "short", 0.9) if len(text) <= 80 else conclusion(text))
    if said is None or is_refusal(said.text):
        return Verdict(False, "", None, "refusal", 0.9)
    found, wanted = options.words_of(said.text), options.words_of(question.gold)
    if found == wanted:
        return Verdict(True, said.text, found, f"{said.rule}/words", said.confidence)
    if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", found) and not options.NOT.search(found):
        return Verdict(True, said.text, wanted, f"{said.rule}/words within", 0.7)
    return Verdict(False if len(found.split()) <= 2 else None, said.text, found[:200], f"{said.rule}/other words", 0.6)


def _check_choice(text: str, question: Question) -> Verdict:
    said = announced(text)
    found = options.choice_in(said.text, question.choices) if said else None
    if said and not found and len(said.text) > 1:
        found = options.choice_of_prose(said.text, question.choices)
    if (
        found is None
        and said
        and (said.rule == "boxed" or options.is_formula(said.text) or options.LETTER_LIST.fullmatch(said.text))
    ):
        # A definite answer that is none of the options; what else the text mentions is not it.
        return Verdict(None, said.text, None, f"{said.rule}/none of the options", 0.6)
    if found is None:
        said, found = None, options.choice_in(text, question.choices) if len(text) < 200 else None
        found = found or options.choice_of_prose(text, question.choices)
    if found is None:
        if is_refusal(text):
            return Verdict(False, "", None, "refusal", 0.9)
        return Verdict(None, said.text if said else "", None, "no option found", 0.5)
    place, rule, confidence = found
    gold = gold_choice(question)
    right = (
        None
        if gold is None
        else place == gold or options.words_of(question.choices[place]) == options.words_of(question.choices[gold])
    )
    source = said or Extraction(question.choices[place], "prose", 0.85)
    return Verdict(right, source.text, options.LETTERS[place], f"{source.rule}/{rule}", round(source.confidence * confidence, 3))


def gold_choice(question: Question) -> int | None:
    """The number of the right option; None where the right answer is none of them."""
    texts = [choice.strip() for choice in question.choices]
    gold = question.gold.strip()
    if gold in texts:
        return texts.index(gold)
    letter = gold.strip("()").upper()
    return options.LETTERS.index(letter) if len(letter) == 1 and letter in options.LETTERS[: len(texts)] else None


def _check_number(text: str, question: Question) -> Verdict:
    said = announced(text)
    found = _number_in(said.text) if said else None
    if found is None and said is not None and RANGE.search(said.text):
        return Verdict(None, said.text, None, f"{said.rule}/range", 0.5)
    if found is None and said is not None and is_refusal(said.text):
        return Verdict(False, said.text, None, "refusal", 0.9)
    if found is None:
        said = said if said is not None and said.rule == "boxed" else None
        if (whole := parse_number(text)) is not None:
            said, found = Extraction(text, "number alone", 0.98), whole
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal", 0.9)
        else:
            said = conclusion(text)
            found = _number_in(said.text) if said else None
            if found is None:
                numbers = find_numbers(text)
                said, found = Extraction(text[-200:], "last number", 0.6), numbers[-1] if numbers else None
    if found is None or said is None:
        return Verdict(None, said.text if said else "", None, "no number found", 0.5)
    return Verdict(_same_number(found, question), said.text, plain(found.value), f"{said.rule}/number", said.confidence)


def _number_in(text: str) -> Number | None:
    """The number that an answer's words mean: the whole, the one behind the last "=" or "is", the last."""
    if (whole := parse_number(text)) is not None:
        return whole
    for _, _, inner in boxes(text)[-1:]:
        return _number_in(inner)
    text = _without_latex(text)
    if (whole := parse_number(text)) is not None:
        return whole
    if RANGE.search(text):
        return None
    text = OUT_OF.sub("", text)
    numbers = find_numbers(text)
    digits = [number for number in numbers if any(mark.isdigit() for mark in text[number.start : number.end])]
    numbers = digits or numbers
    if not numbers and (none := NONE.search(text)):
        return Number(Fraction(0), *none.span())
    if len(numbers) <= 1:
        return numbers[0] if numbers else None
    for pattern in (r"[=≈]\s*(?=[-+$]?\s?[\d.])", r"\b(?:is|are|was|were|be|equals|total(?:s|ing)?|of)\b(?=\D{0,25}\d)"):
        places = [match.end() for match in re.finditer(pattern, text, re.IGNORECASE)]
        if places:
            behind = [number for number in numbers if number.start >= places[-1]]
            if behind:
                return behind[0]
    return numbers[-1]


def _without_latex(text: str) -> str:
    text = re.sub(r"\\[dtc]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"\\(?:text|mbox|mathrm)\s*\{([^{}]*)\}", r" \1 ", text)
    text = UNIT_POWER.sub("", text)
    text = re.sub(r"\^\s?\{?\s?(?:\\circ|°)\s?\}?|\\degree", "°", text)
    return re.sub(r"\\(?:left|right|[()\[\],;!: ])|\$(?!\s?\d)|(?<=\d)\s?\$|[*`{}]", " ", text).replace("\\approx", "≈").strip()


def _same_number(found: Number, question: Question) -> bool | None:
    gold = parse_number(question.gold)
    if gold is None:
        return None
    if question.kind is Kind.FLOAT and question.precision is not None:
        return round(found.value, question.precision) == round(gold.value, question.precision)
    return found.value == gold.value


def _check_list(text: str, question: Question) -> Verdict:
    said = announced(text) or conclusion(text)
    source = said.text if said else text
    brackets = re.findall(r"[\[(]([^\[\]()]*\d[^\[\]()]*)[\])]", source) or re.findall(r"[\[(]([^\[\]()]*\d[^\[\]()]*)[\])]", text)
    gold = [number.value for number in find_numbers(question.gold)]
    found: list[Fraction] = [number.value for number in find_numbers(brackets[-1] if brackets else source)]
    if not found:
        return Verdict(False if is_refusal(text) else None, source, None, "refusal" if is_refusal(text) else "no list found", 0.5)
    prediction = "[" + ", ".join(map(plain, found)) + "]"
    return Verdict(found == gold, source, prediction, f"{said.rule if said else 'text'}/list", 0.9)


def _check_expression(text: str, question: Question) -> Verdict:
    said = announced(text)
    if said is None:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(text) <= 80:
            said = Extraction(text, "short", 0.9)
        elif is_refusal(text):
            return Verdict(False, "", None, "refusal", 0.9)
        else:
            said = conclusion(text) or Extraction(lines[-1], "last line", 0.7)
    golds = readings(question.gold)
    first: Verdict | None = None
    for candidate in readings(said.text):
        for gold in golds[:1]:
            right = equivalent(gold, candidate, question.precision)
            if right:
                return Verdict(True, said.text, candidate, f"{said.rule}/expression", said.confidence)
            if right is False and first is None:
                first = Verdict(False, said.text, candidate, f"{said.rule}/expression", said.confidence)
    return first or Verdict(None, said.text, None, f"{said.rule}/not comparable", 0.4)
