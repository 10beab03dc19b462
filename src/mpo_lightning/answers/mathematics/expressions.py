"""Parses the mathematics of final answers, LaTeX or plain: numbers, formulas, lists, intervals, matrices, relations.

A tree is a nested tuple whose first item is the head:
    ("num", Fraction) ("sym", name) ("neg", a) ("add", a, b) ("mul", a, b) ("div", a, b) ("pow", a, b) ("fact", a)
    ("pm", a) ("call", name, *arguments) ("group", opening, closing, *items) ("matrix", row, ...) ("row", *items)
    ("union", a, b) ("rel", sign, a, b) ("list", *items)
Nothing is evaluated here. A source that is not understood gives None. Depth and length are bounded.
"""

from fractions import Fraction
from typing import Any

from mpo_lightning.answers.mathematics.tokens import FUNCTIONS, NotUnderstood, TokenStream, tokenize, without_words

Tree = tuple[Any, ...]
MAX_DEPTH, MAX_TOKENS = 40, 200
RELATIONS = {"=": "=", "<": "<", ">": ">", "≤": "≤", "≥": "≥", "≠": "≠", "≈": "=", "∈": "∈"}
CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
MATRICES = {"pmatrix", "bmatrix", "vmatrix", "matrix", "array", "smallmatrix", "Bmatrix"}
OPAQUE = {"sum", "prod", "int", "lim", "bigcup"}


def parse(source: str) -> Tree | None:
    """Parses an expression into a tree; None if it is not understood.

    Words beside mathematics (units, "yuan", "for part (a)") are dropped; words alone become one symbol.
    """
    tokens = tokenize(source)
    if not tokens:
        return None
    mathematics = without_words(tokens)
    if len(mathematics) > MAX_TOKENS:
        return None
    if not any(kind in ("number", "name", "begin") for kind, _ in mathematics):
        words = " ".join(text.lower() for kind, text in tokens if kind == "text")
        return ("sym", words) if words else None
    while mathematics and mathematics[-1] in (("mark", "."), ("mark", ","), ("mark", ";"), ("mark", ":")):
        mathematics.pop()
    parser = _Parser(mathematics)
    try:
        tree = parser.statement()
        return tree if parser.place == len(mathematics) else None
    except NotUnderstood:
        return None


class _Parser(TokenStream):
    def statement(self) -> Tree:
        items = [self.relation()]
        while self.peek() in (("mark", ","), ("mark", ";")):
            self.place += 1
            if self.peek()[0] == "end of text" or self.peek() in (("mark", ","), ("mark", ";")):
                continue
            items.append(self.relation())
        return items[0] if len(items) == 1 else ("list", *items)

    def relation(self) -> Tree:
        left = self.union()
        relations: list[Tree] = []
        while self.peek()[0] == "mark" and self.peek()[1] in RELATIONS:
            sign = RELATIONS[self.tokens[self.place][1]]
            self.place += 1
            right = self.union()
            relations.append(("rel", sign, left, right))
            left = right
        if not relations:
            return left
        if len(relations) == 1:
            return relations[0]
        if all(sign == "=" for _, sign, _, _ in relations):
            return ("rel", "=", relations[0][2], left)
        return ("chain", *relations)

    def union(self) -> Tree:
        left = self.sum()
        while self.take("∪"):
            left = ("union", left, self.sum())
        return left

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotUnderstood
        left = self.product()
        while self.peek() in (("mark", "+"), ("mark", "-"), ("mark", "±")):
            sign = self.tokens[self.place][1]
            self.place += 1
            right = self.product()
            left = ("add", left, {"+": right, "-": ("neg", right), "±": ("pm", right)}[sign])
        self.depth -= 1
        return left

    def product(self) -> Tree:
        left = self.signed()
        while True:
            if self.take("*"):
                left = ("mul", left, self.signed())
            elif self.take("/") or self.take(":"):
                left = ("div", left, self.signed())
            elif self._starts_factor():
                right = self.power()
                whole = left[1] if left[0] == "neg" else left
                if (
                    whole[0] == "num"
                    and right[0] == "div"
                    and right[1][0] == right[2][0] == "num"
                    and whole[1].denominator == 1
                ):
                    mixed = ("add", whole, right)  # -2 1/2 is -2.5
                    left = ("neg", mixed) if left[0] == "neg" else mixed
                else:
                    left = ("mul", left, right)
            else:
                return left

    def signed(self) -> Tree:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotUnderstood
        if self.take("-"):
            tree: Tree = ("neg", self.signed())
        elif self.take("+"):
            tree = self.signed()
        elif self.take("±"):
            tree = ("pm", self.signed())
        else:
            tree = self.power()
        self.depth -= 1
        return tree

    def power(self) -> Tree:
        base = self.postfix()
        if self.take("^"):
            # 2^-1 and 2^10: a bare exponent in LaTeX is one token; in plain text it is a number.
            exponent = self.signed() if self.peek() in (("mark", "-"), ("mark", "+")) else self.postfix()
            if exponent in (("sym", "prime"), ("sym", "circ")):
                return base
            return self._more(("pow", base, exponent))
        return base

    def _more(self, tree: Tree) -> Tree:
        while self.take("!"):
            tree = ("fact", tree)
        return tree

    def postfix(self) -> Tree:
        tree = self.atom()
        while True:
            if self.take("!"):
                tree = ("fact", tree)
            elif self.take("%"):
                tree = ("percent", tree)
            elif self.take("'"):
                tree = ("call", "prime", tree)
            else:
                return tree

    def _starts_factor(self) -> bool:
        kind, text = self.peek()
        if kind in ("number", "begin"):
            return True
        if kind == "name":
            return text not in ("end",)
        if kind == "mark" and text == "|":
            return self.bars == 0
        return kind == "mark" and text in CLOSING

    def atom(self) -> Tree:
        kind, text = self.peek()
        self.place += 1
        if kind == "number":
            base = self._subscript()
            if base not in ("", "_10"):
                return ("sym", text + base)  # 101 in base 2
            return ("num", Fraction(text)) if len(text) <= 60 else ("sym", text)
        if kind == "begin":
            return self._matrix(text)
        if kind == "name":
            return self._name(text)
        if kind == "mark" and text == "\\" and self.peek()[1] == "%":
            return self.atom()
        if kind == "mark" and text in CLOSING:
            return self._group(text)
        if kind == "mark" and text == "|":
            self.bars += 1
            inside = self.sum()
            self.need("|")
            self.bars -= 1
            return ("call", "abs", inside)
        raise NotUnderstood

    def _group(self, opening: str) -> Tree:
        bars, self.bars = self.bars, 0
        items: list[Tree] = []
        while True:
            if self.peek()[0] == "mark" and self.peek()[1] in (")", "]", "}", "\\}"):
                closing = self.tokens[self.place][1]
                self.place += 1
                break
            items.append(self.relation())
            if not (self.take(",") or self.take(";")) and self.peek()[1] not in (")", "]", "}", "\\}"):
                raise NotUnderstood
        self.bars = bars
        interval = opening in "([" and closing in ")]" and len(items) == 2
        if closing != CLOSING[opening] and not interval:
            raise NotUnderstood
        if len(items) == 1 and opening in ("(", "{", "["):
            return items[0]
        return ("group", opening.strip("\\"), closing.strip("\\"), *items)

    def _argument(self) -> Tree:
        """Parses an argument of \\frac or \\sqrt: a group in braces, or one digit or symbol."""
        if self.peek() == ("mark", "{"):
            self.place += 1
            return self._group("{")
        kind, text = self.peek()
        if kind == "number" and len(text) > 1 and "." not in text:
            # \frac34 has the arguments 3 and 4
            self.tokens[self.place : self.place + 1] = [("number", digit) for digit in text]
        return self.atom()

    def _subscript(self) -> str:
        if not self.take("_"):
            return ""
        start = self.place
        self.atom()
        return "_" + "".join(text for _, text in self.tokens[start : self.place]).strip("{}")

    def _name(self, name: str) -> Tree:
        if name == "frac":
            return ("div", self._argument(), self._argument())
        if name == "binom":
            return ("call", "binom", self._argument(), self._argument())
        if name == "sqrt":
            if self.take("["):
                index = self.sum()
                self.need("]")
                return ("pow", self._argument(), ("div", ("num", Fraction(1)), index))
            if self.peek() == ("mark", "("):
                return ("pow", self.atom(), ("num", Fraction(1, 2)))
            return ("pow", self._argument(), ("num", Fraction(1, 2)))
        if name in ("overline", "bar", "widehat", "hat", "vec", "overrightarrow", "overset", "underset"):
            return self._argument()
        if name in OPAQUE:
            return self._opaque(name)
        if name in FUNCTIONS:
            return self._function(name)
        symbol = name + self._subscript()
        if self.peek() == ("mark", "(") and len(name) == 1 and name in "fghFGHPQTWuv":
            self.place += 1
            inside = self._group("(")
            return ("call", symbol, *(inside[3:] if inside[0] == "group" else (inside,)))
        if name in ("angle", "triangle", "Delta", "therefore", "because") and self._starts_factor():
            return self.power()
        return ("sym", symbol)

    def _function(self, name: str) -> Tree:
        base = self.atom() if self.take("_") else None
        exponent = self._argument() if self.take("^") else None
        if self.peek()[0] == "mark" and self.peek()[1] in ("(", "{", "["):
            argument = self.atom()
        else:
            argument = self.power()
            while self.peek()[0] in ("number", "name") and self.peek()[1] not in FUNCTIONS:
                argument = ("mul", argument, self.power())
        arguments = argument[3:] if argument[0] == "group" else (argument,)
        tree: Tree = ("call", name, *arguments) if base is None else ("call", "log", *arguments, base)
        if exponent is not None:
            if exponent == ("neg", ("num", Fraction(1))):
                return ("call", f"arc{name}", *arguments)
            return ("pow", tree, exponent)
        return tree

    def _opaque(self, name: str) -> Tree:
        limits: list[Tree] = []
        while self.peek() in (("mark", "_"), ("mark", "^")):
            self.place += 1
            if self.take("{"):
                limits.append(self.relation())
                self.need("}")
            else:
                limits.append(self._argument())
        return ("call", name, *limits, self.product())

    def _matrix(self, name: str) -> Tree:
        if name not in MATRICES:
            raise NotUnderstood
        rows: list[Tree] = []
        row: list[Tree] = []
        while True:
            if self.peek()[0] == "end":
                self.place += 1
                break
            if self.take("\\\\"):
                rows, row = [*rows, ("row", *row)], []
            elif not self.take("&"):
                row.append(self.relation())
        if row:
            rows.append(("row", *row))
        return ("matrix", *rows)
