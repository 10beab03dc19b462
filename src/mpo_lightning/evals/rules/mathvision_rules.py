"""MATH-Vision's own rules: which text is a response's answer, and when it is right.

Text is compared in lower case and numbers with two decimals; no model is asked.

Source: mathllm/MATH-V evaluation/evaluate.py (extraction), evaluation/utils.py (clean-up after hendrycks/math,
equality), rewritten. Their equality turns LaTeX into Python code and runs it; ours evaluates the parsed formula.
"""

import re

from mpo_lightning.answers.mathematics.evaluate import values
from mpo_lightning.answers.mathematics.expressions import Tree, parse

PHRASES = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
REMOVED = (
    "\\text",
    "\\mbox",
    "\\left",
    "\\right",
    "$",
    "^{\\circ}",
    "^\\circ",
    "{m}^3",
    "m^3",
    "{units}",
    "units",
    "{km}",
    "km",
)


def official_answer(response: str) -> str:
    """Returns the answer that the benchmark's script reads in a response, in lower case."""
    answer = response.strip()
    for letter in "ABCDE":
        ends = (f" {letter}.", f" ({letter}).")
        starts = (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if answer.endswith(ends) or answer.startswith(starts):
            answer = letter
    behind = answer.split("is ")[-1].rstrip(".")
    if _is_number(behind):
        answer = behind
    if "oxed{" not in answer:
        for phrase in PHRASES:
            for spelled in (phrase, phrase.replace("the", "The")):
                behind = answer.split(spelled)[-1].strip()
                answer = behind.split("\n")[0].split(". ")[0] if spelled in answer else behind
    elif answer.count("oxed{") > 1:
        answer = "\\boxed{" + answer.split("oxed{")[-1]
    answer = _cleaned(answer)
    for letter in "abcde":
        answer = answer.replace(f"({letter})", letter)
    for letter in "abcde":
        answer = answer.replace(f"{{{letter}}}", letter)
    return answer.rstrip(".").lstrip(":").strip()


def official_correct(answer: str, gold: str, options: list[str]) -> bool:
    """Whether an answer is the right letter, or the text of the right option."""
    value = (
        options[ord(gold) - ord("A")] if options and len(gold) == 1 and 0 <= ord(gold) - ord("A") < len(options) else ""
    )
    return official_equal(gold, answer) or official_equal(value, answer)


def official_equal(gold: str, answer: str) -> bool:
    """Whether two answers are equal in lower case, as tuples of numbers, or as numbers with two decimals."""
    gold, answer = gold.lower(), answer.lower()
    if not gold.replace(" ", "") or not answer.replace(" ", ""):
        return False
    if gold.strip() == answer.strip():
        return True
    gold, answer = _rounded_tuple(gold), _rounded_tuple(answer)
    if gold == answer:
        return True
    first, second = _number(gold), _number(answer)
    return first is not None and second is not None and round(first, 2) == round(second, 2)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _cleaned(text: str) -> str:
    text = text.lower().replace("{}", "")
    boxed = re.findall(r"oxed{(.*)}", text, re.DOTALL)
    answer = boxed[-1] if boxed else text
    if "}" in answer and ("{" not in answer or answer.find("}") < answer.find("{")):
        answer = answer.split("}")[0]
    answer = answer.split("=")[-1].split("\\approx")[-1]
    answer = (
        answer.replace(" ", "")
        .replace("\\,", "")
        .replace("∞", "\\infty")
        .replace("+\\infty", "\\infty")
        .replace("\\\\", "\\")
        .replace("\n", "")
    )
    answer = answer.replace("\\text", "").replace("\\mbox", "").replace("bmatrix", "pmatrix")
    for word in REMOVED[2:]:
        answer = answer.replace(word, "")
    return _plain_latex(answer)


def _plain_latex(text: str) -> str:
    """Cleans LaTeX as `strip_string` of hendrycks/math does."""
    text = text.replace("\\!", "").replace("tfrac", "frac").replace("dfrac", "frac").replace("\\$", "")
    text = text.split("\\text{ ")[0] if text.count("\\text{ ") == 1 else text
    text = text.replace("\\%", "").replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = f"0{text}" if text[0] == "." else text
    parts = text.split("=")
    text = parts[1] if len(parts) == 2 and len(parts[0]) <= 2 else text
    text = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    text = "\\frac{1}{2}" if text == "0.5" else text
    top, slash, bottom = text.partition("/")
    if (
        slash
        and re.fullmatch(r"[+-]?\d+", top)
        and re.fullmatch(r"[+-]?\d+", bottom)
        and text == f"{int(top)}/{int(bottom)}"
    ):
        return f"\\frac{{{top}}}{{{bottom}}}"
    return text


def _braced_fractions(text: str) -> str:
    first, *parts = text.split("\\frac")
    made = first
    for part in parts:
        made += "\\frac"
        if part.startswith("{"):
            made += part
        elif len(part) < 2:
            return text
        elif part[1] != "{":
            made += f"{{{part[0]}}}{{{part[1]}}}{part[2:]}"
        else:
            made += f"{{{part[0]}}}{part[1:]}"
    return made


def _rounded_tuple(text: str) -> str:
    items = text[1:-1].split(",")
    if len(items) < 2 or (text[0], text[-1]) not in (("(", ")"), ("[", "]")):
        return text
    numbers = [item if "infty" in item or item in ("a", "-a") else _number(item) for item in items]
    if any(number is None for number in numbers):
        return text
    return (
        text[0]
        + ",".join(
            number if isinstance(number, str) else str(round(number, 2)) for number in numbers if number is not None
        )
        + text[-1]
    )


def _number(text: str) -> float | None:
    # Their parser reads up to the first unmatched closing brace, and has no units or degrees.
    if "\\mathrm" in text or "\\circ" in text:
        return None
    depth = 0
    for place, mark in enumerate(text):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            text = text[:place]
            break
    tree = parse(text)
    if tree is None or _has_symbol(tree):
        return None
    found = values(tree)
    return found[0].real if found and abs(found[0].imag) < 1e-12 else None


def _has_symbol(tree: Tree) -> bool:
    if tree[0] == "sym":
        return tree[1] not in ("pi", "e")
    return any(_has_symbol(part) for part in tree[1:] if isinstance(part, tuple))
