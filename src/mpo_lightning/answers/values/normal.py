"""Writes what Unicode and HTML have marks of their own for in the plain way: ½ as 1/2, 2⁵ as 2^{5}, √13 as \\sqrt{13}.

Every answer is brought into this form before it is read, so that numbers, formulas and units know one spelling.
"""

import html
import re
import unicodedata

HALVES = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
FRACTION = re.compile(rf"(\d?)\s?([{HALVES}])")
RAISED, LOWERED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
ROOT = re.compile(r"([√∛∜])\s?(?:(\d+(?:\.\d+)?|[a-zA-Z](?![a-zA-Z]))|(?=\())")
DIGIT = re.compile(r"(?![0-9])\d")
MARKS = str.maketrans({"’": "'", "′": "'", "″": '"', "\u00a0": " ", "\u202f": " ", "\u2009": " ", "−": "-", "∶": ":"})
UNIT_MARKS = str.maketrans(
    {
        "℃": "°C",
        "℉": "°F",
        "㎝": "cm",
        "㎜": "mm",
        "㎞": "km",
        "㎏": "kg",
        "㎡": "m^{2}",
        "「": " ",
        "」": " ",
        "『": " ",
        "』": " ",
        "Ω": "Ω",
    }
)
DOLLARS = re.compile(r"\bUSD\s?(?=\d)")
SWISS = re.compile(r"(?<=\d)['’](?=\d{3}(?!\d))")
"""Marks between thousands: 1'234."""
STYLED = re.compile("[\u2460-\u2473\u24b6-\u24e9\U0001d400-\U0001d7ff]")
"""Letters and digits in circles, bold, script."""
PER_MILLE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?‰")
TAG = re.compile(
    r"</?(?:b|u|i|p|em|strong|span|div|code|mark|font|small|br|tt)(?:\s[^<>]{0,80})?/?>|<su([bp])>([^<>]{1,20})</su\1>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:[a-z]{2,8}|#\d{1,5});")


def normal(text: str) -> str:
    """Returns a text in which fractions, powers, roots and digits are written in ASCII or LaTeX, without HTML."""
    if "<" in text or "&" in text:
        text = TAG.sub(_script, ENTITY.sub(lambda match: html.unescape(match[0]), text))
    if "USD" in text:
        text = DOLLARS.sub("$", text)
    if "'" in text or "’" in text:
        text = SWISS.sub("", text)
    if text.isascii():
        return text
    text = "".join(unicodedata.normalize("NFKC", mark) if "\uff01" <= mark <= "\uff5e" else mark for mark in text)
    text = STYLED.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = text.translate(MARKS).translate(UNIT_MARKS)
    text = PER_MILLE.sub(lambda match: f"{float(match[1]) / 10:g}%", text)
    text = FRACTION.sub(_fraction, text)
    text = RAISED.sub(lambda match: f"^{{{unicodedata.normalize('NFKC', match[0])}}}", text)
    text = LOWERED.sub(lambda match: f"_{{{unicodedata.normalize('NFKC', match[0])}}}", text)
    text = ROOT.sub(_root, text)
    text = text.replace("\u2212", "-")
    return DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)


def _script(match: re.Match[str]) -> str:
    return f"{'_' if match[1] in 'bB' else '^'}{{{match[2]}}}" if match[1] else " " * (match[0][1] in "pPdD")


def _root(match: re.Match[str]) -> str:
    return f"{ROOTS[match[1]]}{{{match[2]}}}" if match[2] else ROOTS[match[1]]


def _fraction(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[2]).split("\u2044")
    return f"{match[1]} {top}/{bottom}" if match[1] else f"{top}/{bottom}"
