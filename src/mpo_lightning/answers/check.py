"""Is this response right? One typed decision, with the rule that made it."""

import re
from fractions import Fraction

from mpo_lightning.answers import choices as options
from mpo_lightning.answers.bounds import is_bound, without_bounds
from mpo_lightning.answers.boxed import boxes
from mpo_lightning.answers.corrections import corrected
from mpo_lightning.answers.equality import equivalent
from mpo_lightning.answers.evaluate import value_at, values
from mpo_lightning.answers.expressions import parse
from mpo_lightning.answers.extract import announced, clean, conclusion, is_refusal
from mpo_lightning.answers.hedges import DENIAL, is_denied, without_aside
from mpo_lightning.answers.numbers import UNIT_POWER, Number, find_numbers, parse_number, plain
from mpo_lightning.answers.question import Kind, Question
from mpo_lightning.answers.readings import COPULA, readings
from mpo_lightning.answers.readings import FORMULA as FORMULAS
from mpo_lightning.answers.units import units_differ
from mpo_lightning.answers.verdict import Extraction, Verdict

OUT_OF = re.compile(r"\s+out\s+of\s+\S+")
NONE = re.compile(r"\bthere\s+(?:are|is|were|was)\s+no\b|^\W*none\b|^no\s+\w+\s+(?:are|is|were|was)\b", re.IGNORECASE)
RANGE = re.compile(r"\d\s*(?:to|or|~|–|-|:)\s*\d[\d.,]*[^\d]{0,30}$")
"""An answer that is a range is no number."""


SEVERAL = re.compile(r"%\s+of\s+\d|\b[a-z]\s?=[^=]{1,20}[,;]\s*(?:and\s+)?[a-z]\s?=")
"""A share of a number; values of several unknowns."""
FORMULA = re.compile(
    r"√|π|\\(?:pi|sqrt|log|ln|binom|cdot|times)\b|\d\s?!|\^(?!\s?\{?\s?(?:\\circ|°))|(?<![A-Za-z])sqrt|\d\s?[xyznabk](?![A-Za-z])|\\frac|[\d)}]\s[*/+]\s[\d({]"
)
"""Mathematics whose digits are not its value."""
LETTERED = re.compile(r"√|π|\\pi|\d\s?!|\d\s?[xyznabk](?![A-Za-z])")
"""A number with a factor that looks like a unit."""


WORDS = re.compile(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}")


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
    if (rest := corrected(text)) is not None and len(rest.strip()) > 3:
        text = rest.strip()  # what was taken back does not count
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
    if re.search(r"\bor\b", found) and not re.search(r"\bor\b", wanted):
        return Verdict(None, said.text, found[:200], f"{said.rule}/one of several", 0.5)
    if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", found) and not DENIAL.search(found):
        return Verdict(True, said.text, wanted, f"{said.rule}/words within", 0.7)
    return Verdict(False if len(found.split()) <= 2 else None, said.text, found[:200], f"{said.rule}/other words", 0.6)


def _check_choice(text: str, question: Question) -> Verdict:
    if len(question.choices) == 2:
        text = options.BUT_YES.sub(" ", text)
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
    right = None if gold is None else place == gold or _same_option(question.choices[place], question.choices[gold])
    source = said or Extraction(question.choices[place], "prose", 0.85)
    return Verdict(right, source.text, options.LETTERS[place], f"{source.rule}/{rule}", round(source.confidence * confidence, 3))


def _same_option(one: str, other: str) -> bool:
    """Whether a data set has an option twice."""
    if len(one) != len(other) and abs(len(one) - len(other)) > 12:
        return False
    return options.words_of(one) == options.words_of(other)


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
    if found is None and said is not None and any(mark.isdigit() for mark in said.text):
        # An answer that is announced, and is not one number.
        return Verdict(None, said.text, None, f"{said.rule}/no single number", 0.5)
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
                numbers = find_numbers(without_bounds(text))
                said, found = Extraction(text[-200:], "last number", 0.6), numbers[-1] if numbers else None
    if found is None or said is None:
        return Verdict(None, said.text if said else "", None, "no number found", 0.5)
    return Verdict(_same_number(found, question), said.text, plain(found.value), f"{said.rule}/number", said.confidence)


def _number_in(text: str) -> Number | None:
    """The number that an answer's words mean: the whole, the value of a formula, the one behind the last "=" or "is", the only one."""
    whole = parse_number(text)
    if whole is not None and (text[-1:].isdigit() or not (LETTERED.search(text) or (" or " in text and is_bound(text)))):
        return whole
    for _, _, inner in boxes(text)[-1:]:
        return _number_in(inner)
    text = without_bounds(text)
    if is_bound(text):
        return None
    text = without_aside(text)
    bare = _without_latex(text)
    if (whole := parse_number(bare)) is not None and not LETTERED.search(bare):
        return whole
    if FORMULA.search(bare):
        return _value_of(text)
    text = bare
    if RANGE.search(text) or SEVERAL.search(text):
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
    if len({number.value for number in numbers}) > 1 and len(text) <= 80:
        return None  # several numbers, and nothing that says which
    return numbers[-1]


def _value_of(text: str) -> Number | None:
    """The number that a formula is; None for one with an unknown, or for words around several formulas."""
    formulas = [next(piece for piece in match.groups() if piece) for match in FORMULAS.finditer(text)]
    source = formulas[-1] if formulas else text
    source = source.split("=")[-1].split("≈")[0] if "=" in source else source
    tree = parse(COPULA.split(source)[-1].strip(" :.*"))
    found = values(tree) if tree is not None else None
    if found is None or len({round(value.real, 9) for value in found}) > 1 or abs(found[0].imag) > 1e-12:
        return None
    exact = value_at(tree, 0) if tree is not None else None
    return Number(exact if isinstance(exact, Fraction) else Fraction(found[0].real), 0, len(text))


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
    if found.value == gold.value:
        return True
    if (
        question.kind is Kind.FLOAT
        and question.precision is not None
        and abs(found.value - gold.value) <= Fraction(1, 10**question.precision)
    ):
        return round(found.value, question.precision) == round(gold.value, question.precision)
    return False


def _check_list(text: str, question: Question) -> Verdict:
    said = announced(text) or conclusion(text)
    source = said.text if said else text
    brackets = _brackets(source) or _brackets(text)
    gold = [number.value for number in find_numbers(question.gold)]
    found: list[Fraction] = [number.value for number in find_numbers(brackets[-1] if brackets else source)]
    if not found:
        return Verdict(False if is_refusal(text) else None, source, None, "refusal" if is_refusal(text) else "no list found", 0.5)
    prediction = "[" + ", ".join(map(plain, found)) + "]"
    return Verdict(found == gold, source, prediction, f"{said.rule if said else 'text'}/list", 0.9)


def _brackets(text: str) -> list[str]:
    """Lists in brackets that are not denied."""
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
            return Verdict(False, "", None, "refusal", 0.9)
        else:
            said = conclusion(text) or Extraction(lines[-1], "last line", 0.7)
    golds = readings(question.gold)
    words = WORDS.sub(r" \1 ", said.text)
    if is_bound(words, signs=False) and not is_bound(WORDS.sub(r" \1 ", question.gold), signs=False):
        return Verdict(None, said.text, None, f"{said.rule}/bound", 0.5)
    first: Verdict | None = None
    for candidate in readings(said.text):
        for gold in golds[:1]:
            right = equivalent(gold, candidate, question.precision)
            if right and units_differ(gold, candidate):
                return Verdict(None, said.text, candidate, f"{said.rule}/another unit", 0.5)
            if right:
                return Verdict(True, said.text, candidate, f"{said.rule}/expression", said.confidence)
            if right is False and first is None:
                first = Verdict(False, said.text, candidate, f"{said.rule}/expression", said.confidence)
    return first or Verdict(None, said.text, None, f"{said.rule}/not comparable", 0.4)
