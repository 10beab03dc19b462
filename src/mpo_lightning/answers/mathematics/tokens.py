"""Splits LaTeX or plain mathematics into tokens.

A token is a pair (kind, text). Kinds: number, name (a symbol, a command without its backslash, or a word), mark (an
operator or a bracket), text (words that are not mathematics).
"""

import re
import unicodedata

MAX_LENGTH = 2000
"""Longest expression in characters; a longer one is compared as text only."""

GONE = re.compile(
    r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?|displaystyle|limits|nolimits|tfrac(?=!)|,|;|!|:|>|quad|qquad"
    r"|hspace\*?\{[^{}]{0,20}\}|"
    r"phantom\{[^{}]{0,20}\}|boxed(?![a-zA-Z])|fbox(?![a-zA-Z]))|\\ |~|\$|\\[()\[\]](?=\s|$|[.,])|&"
)
REPLACED = (
    # A mixed number in plain text: 1 3/4.
    (re.compile(r"(?<![\d.,/^_{)])(\d{1,6})[\s~]+(\d{1,4})\s?/\s?(\d{1,4})(?![\d/.])"), r"(\1+\2/\3)"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (
        re.compile(
            r"\\?(sin|cos|tan|cot|sec|csc)\s*(?:\\left)?\(?\s*(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?"
            r"|°)\s*(?:(?:\\right)?\))?"
        ),
        r"\\\1(\2\\pi/180)",
    ),
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|°|\\degree|º"), " "),
    (re.compile(r"(?<=\d),\\!\s*(?=\d)|(?<=\d)\{,\}(?=\d)|(?<=\d)\\,(?=\d{3})"), ""),
    (re.compile(r"\s+equals?(?:\s+to)?\s+"), " = "),
    (re.compile(r"\\(?:leq|leqslant|le)(?![a-zA-Z])|≤|<="), " ≤ "),
    (re.compile(r"\\(?:geq|geqslant|ge)(?![a-zA-Z])|≥|>="), " ≥ "),
    (re.compile(r"\\(?:neq|ne)(?![a-zA-Z])|≠|!="), " ≠ "),
    (re.compile(r"\\lt(?![a-zA-Z])"), " < "),
    (re.compile(r"\\gt(?![a-zA-Z])"), " > "),
    (re.compile(r"\\(?:approx|simeq|doteq|sim)(?![a-zA-Z])|≈"), " ≈ "),
    (re.compile(r"\\(?:cdot|times|ast|bullet)(?![a-zA-Z])|×|·|⋅"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])|÷"), " / "),
    (re.compile(r"\\pm(?![a-zA-Z])|±|\+/-"), " ± "),
    (re.compile(r"\\mp(?![a-zA-Z])|∓"), " ± "),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\langle(?![a-zA-Z])|⟨"), "("),
    (re.compile(r"\\rangle(?![a-zA-Z])|⟩"), ")"),
    (re.compile(r"\\l(floor|ceil)(?![a-zA-Z])"), r"\\\1("),
    (re.compile(r"⌊"), r"\\floor("),
    (re.compile(r"⌈"), r"\\ceil("),
    (re.compile(r"\\r(?:floor|ceil)(?![a-zA-Z])|[⌋⌉]"), ")"),
    (re.compile(r"\\mathbb\s*\{?\s*R\s*\}?|ℝ"), r"(-\\infty,\\infty)"),
    (re.compile(r"\\\{\s*\\\}"), r" \\emptyset "),
    (re.compile(r"\\cup(?![a-zA-Z])|∪"), " ∪ "),
    (re.compile(r"\\in(?![a-zA-Z])|∈"), " ∈ "),
    (re.compile(r"\b(?:negative|minus)\s+(?=infinity\b)"), "-"),
    (re.compile(r"\\(?:infty|infinity)(?![a-zA-Z])|∞"), r" \\infty "),
    (re.compile(r"\\(?:emptyset|varnothing)(?![a-zA-Z])|∅"), r" \\emptyset "),
    (re.compile(r"\{([^{}]{1,20})\\over(?![a-z])([^{}]{1,20})\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?<![a-zA-Z])(log|lg)_?(\d{1,3})(?=\s?\()"), r"\\\1_{\2}"),
    (re.compile(r"\{\s*(\w{1,5})\s*\\choose\s*(\w{1,5})\s*\}"), r"\\binom{\1}{\2}"),
    (re.compile(r"\\lbrace(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"√|(?<=\d)\s*\broot\b\s*(?=\d)"), r"\\sqrt "),
    (re.compile(r"π"), r"\\pi "),
    (re.compile(r"\\\$|[€£¥]"), ""),
    (re.compile(r"\\#"), ""),
    (re.compile(r"\*\*"), "^"),
)
TEXT = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|texttt|operatorname|mathrm|mathbf|mathit|rm|bf)\s*\{([^{}]{0,200})\}"
)
TOKEN = re.compile(
    r"(?P<number>\d+(?:,\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|\\begin\s*\{(?P<begin>[a-zA-Z]+\*?)\}(?:\{[clr|]+\})?|\\end\s*\{(?P<end>[a-zA-Z]+\*?)\}"
    r"|\x00(?P<text>[^\x01]*)\x01"
    r"|\\(?P<command>[a-zA-Z]+)|(?P<brace>\\[{}|])|(?P<newline>\\\\|\x02)"
    r"|(?P<word>[a-zA-Z\u0370-\u03ff\u4e00-\u9fff]+)"
    r"|(?P<mark>[-+*/^_!%'=<>≤≥≠≈±∪∈(){}\[\],;:|?.])"
    r"|(?P<other>\S)"
)
JOINING = {"and", "or", "和", "或", "и"}
FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "log",
    "ln",
    "lg",
    "exp",
    "sqrt",
    "frac",
    "binom",
    "max",
    "min",
    "floor",
    "ceil",
    "gcd",
    "lcm",
    "det",
    "deg",
}
WORDS = FUNCTIONS | {
    "pi",
    "infty",
    "oo",
    "theta",
    "alpha",
    "beta",
    "gamma",
    "lambda",
    "mu",
    "sigma",
    "phi",
    "omega",
    "epsilon",
    "delta",
}


def tokenize(source: str) -> list[tuple[str, str]] | None:
    """Splits an expression into tokens; None if it is too long or contains a character that is not mathematics."""
    if len(source) > MAX_LENGTH:
        return None
    # Two backslashes end a row of a matrix; elsewhere they are one escaped backslash.
    source = (
        re.sub(r"\\\\\s?(?:\[\d+\w+\])?", "\x02", source)
        if "\\begin" in source
        else re.sub(r"\\\\(?=[a-zA-Z])", r"\\", source)
    )
    for pattern, by in REPLACED:
        source = pattern.sub(by, source)
    # Keep the command's words apart from the letters around it.
    source = TEXT.sub(lambda match: f"\x00{match[1]}\x01", source)
    source = GONE.sub(lambda match: " " if match[0] != "&" else " & ", source)
    tokens: list[tuple[str, str]] = []
    depth = 0
    for match in TOKEN.finditer(source):
        kind, text = str(match.lastgroup), match[str(match.lastgroup)]
        depth += (text in ("(", "[", "\\{")) - (text in (")", "]", "\\}"))
        if kind == "number" and depth and "," in text:
            for part in text.split(","):  # (12,102) is a pair
                tokens += [("number", part), ("mark", ",")]
            tokens.pop()
        elif kind == "number":
            tokens.append(("number", text.replace(",", "")))
        elif kind in ("begin", "end"):
            tokens.append((kind, text))
        elif kind == "newline":
            tokens.append(("mark", "\\\\"))
        elif kind == "command":
            tokens.append(("name", text))
        elif kind == "brace":
            tokens.append(("mark", text))
        elif kind == "text":
            tokens += _words(text)
        elif kind == "word":
            tokens += _plain_word(text)
        elif kind == "mark" or text == "&":
            tokens.append(("mark", text))
        else:
            return None
    return tokens


def _words(text: str) -> list[tuple[str, str]]:
    """The tokens of \\text{...}: a joining word is a comma, upright mathematics (e, sin, i) is itself, the rest is
    words.
    """
    stripped = text.strip()
    if stripped.lower() in JOINING or not stripped:
        return [("mark", ",")] if stripped else []
    if stripped in FUNCTIONS or stripped in ("e", "i"):
        return [("name", stripped)]
    inner = re.fullmatch(r"([\d.,]+)\s*(.*)", stripped, re.DOTALL)
    if inner and re.fullmatch(r"\d+(\.\d+)?", inner[1].replace(",", "")):
        rest = [("text", inner[2])] if inner[2] else []
        return [("number", inner[1].replace(",", "")), *rest]
    return [("text", stripped)]


def _plain_word(text: str) -> list[tuple[str, str]]:
    """The tokens of letters outside a command: a known word, a joining word, or a product of symbols."""
    if text.lower() in JOINING:
        return [("mark", ",")]
    if text in WORDS:
        return [("name", text)]
    if text.lower() == "infinity":
        return [("name", "infty")]
    for word in sorted(WORDS, key=len, reverse=True):
        if len(word) > 1 and text.startswith(word) and word in FUNCTIONS:
            return [("name", word), *_plain_word(text[len(word) :])]
    if match := re.fullmatch(r"(?P<left>[a-zA-Z])(?:or|and)(?P<right>[a-zA-Z])", text):
        return [("name", match["left"]), ("mark", ","), ("name", match["right"])]
    if len(text) == 1 and "α" <= text <= "ω":
        return [("name", unicodedata.name(text).split()[-1].lower())]
    if len(text) > 3 or not text.isascii():
        return [("text", text)]
    return [("name", letter) for letter in text]


def without_words(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The tokens without words and without the powers of units (cm^2)."""
    kept: list[tuple[str, str]] = []
    place = 0
    while place < len(tokens):
        if tokens[place][0] != "text":
            kept.append(tokens[place])
        elif tokens[place + 1 : place + 2] == [("mark", "^")]:
            braced = tokens[place + 2 : place + 3] == [("mark", "{")]
            place += 4 if braced else 2
        place += 1
    return kept


class NotUnderstood(Exception):
    """Raised for tokens that are not mathematics this parser knows."""


class TokenStream:
    """Gives tokens to a parser one by one.

    Args:
        tokens: pairs of kind and text.
    """

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.place, self.depth, self.bars = tokens, 0, 0, 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ("end of text", "")

    def take(self, mark: str) -> bool:
        if self.peek() == ("mark", mark):
            self.place += 1
            return True
        return False

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise NotUnderstood
