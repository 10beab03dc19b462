"""Mathematics that is the same, and that is not."""

import random
from fractions import Fraction

import pytest

from mpo_lightning.answers import equivalent
from mpo_lightning.answers.mathematics.evaluate import values
from mpo_lightning.answers.mathematics.expressions import parse

SAME = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac{3}{4}", ".75"),
    (r"3\sqrt{13}", r"\sqrt{117}"),
    ("10,000", "10000"),
    (r"10{,}000", "10000"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90 degrees"),
    (r"\$10", "10"),
    (r"10\%", "10%"),
    ("3", "three sides"),
    ("x = 5", "5"),
    ("5", "x=5"),
    (r"x \in [0, 1)", "[0,1)"),
    (r"\left(1, 2\right)", "(1,2)"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("1, 2", "2, 1"),
    (r"1 \text{ and } 2", "1, 2"),
    (r"(0, \infty)", r"(0,+\infty)"),
    (r"2x + 2", "2(x+1)"),
    (r"(x+1)^2", "x^2+2x+1"),
    (r"\sin^2 x + \cos^2 x", "1"),
    ("x > 5", "5 < x"),
    (r"x \ge 3", "3 ≤ x"),
    ("2x = 4y", "x = 2y"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"),
    (r"\binom{5}{2}", "10"),
    ("5!", "120"),
    (r"\log_2 8", "3"),
    (r"e^{i\pi}", "-1"),
    (r"\text{odd}", "odd"),
    (r"3\pi", "3π"),
    ("2^{10}", "1024"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"3\frac{1}{2}", "3.5"),
    (r"15\text{ cm}^2", "15"),
    (r"|{-3}|", "3"),
    (r"(2,3) \cup (5, 7)", r"(2,3)\cup(5,7)"),
    ("3.142", r"\pi"),
    ("a_3 = 2, a_4 = 5", "a_4 = 5, a_3 = 2"),
    (r"(4,5)\cup(1,2)", r"(1,2)\cup(4,5)"),
    (r"\sin 30^\circ", "0.5"),
    (r"\cos(60°)", r"\frac12"),
    (r"\lfloor 3.7 \rfloor", "3"),
    (r"\lceil 3.2 \rceil", "4"),
    (r"3\cdot10^{-5}", "3e-5"),
    (r"\mathbb{R}", r"(-\infty,\infty)"),
    (r"\infty", "infinity"),
    ("1101_2", "1101_{2}"),
    (r"\langle 4,5\rangle", "(4,5)"),
    (r"-3\frac{1}{2}", "-3.5"),
    (r"\emptyset", r"\{\}"),
]
DIFFERENT = [
    ("4", "-4"),
    ("24/25", "-24/25"),
    ("(1,2)", "(-1,2)"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("x > 5", "x < 5"),
    ("x > 5", r"x \ge 5"),
    ("1", "10"),
    ("34", "35"),
    ("100", "104"),
    (r"\sqrt{2}", "2"),
    (r"\pm 3", "3"),
    ("f(x)", "f(y)"),
    ("7 = 11a + c", "11a + c"),
    ("0.3", r"\frac{1}{3}"),
    ("abc", "xyz"),
    ("1, 2", "1, 2, 3"),
    (r"x^2", "2x"),
    (r"\{1,2\}", "(1,2"),
    ("12102", "(12,102)"),
]


@pytest.mark.parametrize(("gold", "prediction"), SAME)
def test_the_same(gold: str, prediction: str) -> None:
    assert equivalent(gold, prediction) is True
    assert equivalent(prediction, gold) is True


@pytest.mark.parametrize(("gold", "prediction"), DIFFERENT)
def test_not_the_same(gold: str, prediction: str) -> None:
    assert equivalent(gold, prediction) is not True
    assert equivalent(prediction, gold) is not True


def test_large_numbers_are_compared_exactly() -> None:
    assert equivalent("56017895760", "56017895761") is False
    assert equivalent(str(10**40), str(10**40 + 1)) is False


def test_arithmetic_is_that_of_fractions() -> None:
    """Random sums, products and quotients, printed as LaTeX and computed by Python's fractions."""
    rng = random.Random(0)

    def tree(depth: int) -> tuple[str, Fraction]:
        if depth == 0:
            number = rng.randint(1, 20)
            return str(number), Fraction(number)
        (left, first), (right, second) = tree(depth - 1), tree(depth - 1)
        kind = rng.choice("+-*/")
        if kind == "/" and second:
            return rf"\frac{{{left}}}{{{right}}}", first / second
        if kind == "*":
            return rf"\left({left}\right) \cdot \left({right}\right)", first * second
        return (
            (f"{left} + {right}", first + second)
            if kind == "+"
            else (rf"{left} - \left({right}\right)", first - second)
        )

    for _ in range(300):
        source, expected = tree(3)
        parsed = parse(source)
        assert parsed is not None
        found = values(parsed)
        assert found is not None and abs(found[0] - float(expected)) <= 1e-9 * max(1, abs(float(expected))), source


@pytest.mark.parametrize(
    "source", ["9^{9^{9^9}}", "1000000!", "2^{99999999}", "(" * 500, "{" * 3000, "\\frac" * 300, "-" * 1999, "x!" * 900]
)
def test_what_would_take_forever_is_left(source: str) -> None:
    assert equivalent("1", source) is not True


T, F, N = True, False, None
AS_SUITES_HAVE_THEM = [
    # hendrycks math_equivalence tests style
    ("10\\text{ units}", "10 ", T),
    ("\\frac12", "\\frac{1}{2}", T),
    ("x=4", "4", T),
    ("\\left(x+2\\right)\\left(x-1\\right)", "(x+2)(x-1)", T),
    ("0.5", "\\frac{1}{2}", T),
    ("\\sqrt3", "\\sqrt{3}", T),
    ("20\\%", "20", T),
    ("1,000", "1000", T),
    ("\\tfrac{1}{2}", "\\frac{1}{2}", T),
    ("6 \\text{ degrees}", "6^\\circ", T),
    ("(3,\\pi)", "(3, \\pi)", T),
    ("\\text{(A)}", "A", T),
    ("\\text{A}", "A", T),
    ("5\\frac{1}{2}", "\\frac{11}{2}", T),
    ("-\\frac{1}{2}", "\\frac{-1}{2}", T),
    ("\\frac{-3}{4}", "-0.75", T),
    ("2x+3", "3+2x", T),
    ("x^2+1", "1+x^{2}", T),
    ("\\frac{x+1}{2}", "(x+1)/2", T),
    ("y=2x+1", "2x+1", T),
    ("y = 2x+1", "2x - y + 1 = 0", T),
    ("[2,5)", "2 \\le x < 5", T),
    ("(-\\infty,3)\\cup(3,\\infty)", "(-\\infty, 3) \\cup (3, \\infty)", T),
    ("x\\ne 3", "x \\neq 3", T),
    ("1.5\\times10^5", "150000", T),
    ("3.0 \\times 10^{-2}", "0.03", T),
    ("6.02e23", "6.02 \\times 10^{23}", T),
    ("12_8", "12_8", T),
    ("1010_2", "1010", N),
    ("\\$3.50", "3.5", T),
    ("$3.50$ dollars", "3.50", T),
    ("17\\text{ cm}", "17\\text{ m}", T),
    ("\\frac{3}{4}\\pi", "\\frac{3\\pi}{4}", T),
    ("2\\sqrt{2}+1", "1+2\\sqrt{2}", T),
    ("\\sqrt{8}", "2\\sqrt{2}", T),
    ("e^2", "e^{2}", T),
    ("\\ln 2", "\\log_e 2", T),
    ("\\log_{10} 100", "2", T),
    ("\\cos 60^\\circ", "\\frac12", N),
    ("i", "\\sqrt{-1}", T),
    ("3+4i", "4i+3", T),
    ("\\frac{1}{1+i}", "\\frac{1-i}{2}", T),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}", F),
    ("\\begin{bmatrix}1\\\\0\\end{bmatrix}", "(1,0)", N),
    ("2, 3", "{2,3}", T),
    ("(2,3)", "\\{2,3\\}", N),
    ("2 \\text{ or } 3", "2, 3", T),
    ("\\{1,2,3\\}", "1,2,3", T),
    ("\\emptyset", "\\varnothing", T),
    ("n(n+1)/2", "\\frac{n^2+n}{2}", T),
    ("a^2-b^2", "(a-b)(a+b)", T),
    ("\\sin(2x)", "2\\sin x\\cos x", T),
    ("|x|", "\\sqrt{x^2}", T),
    ("x", "-x", F),
    ("2^{n+1}", "2\\cdot 2^n", T),
    ("\\frac{1}{x}", "x^{-1}", T),
    ("\\sqrt[3]{27}", "3", T),
    ("7!", "5040", T),
    ("{6\\choose 2}", "15", N),
    ("\\binom62", "15", T),
    ("\\frac{\\pi}{2}", "1.5708", T),
    ("\\frac{2}{3}", "0.667", T),
    ("\\frac{2}{3}", "0.66", N),
    ("0.6667", "\\frac{2}{3}", T),
    ("33.33", "\\frac{100}{3}", T),
    ("1000", "10^3", T),
    ("Tuesday", "tuesday", T),
    ("\\text{Tuesday}", "Monday", N),
    ("even", "odd", N),
    ("yes", "Yes.", T),
    ("13:30", "1:30", F),
    ("3:4", "\\frac34", T),
    ("3 : 4", "6:8", T),
    ("AB", "BA", T),
    ("\\angle ABC", "ABC", N),
    ("4\\ \\text{km/h}", "4", T),
    ("5 \\text{ m/s}^2", "5", T),
    ("100\\,\\text{g}", "100", T),
    ("25 cm^2", "25", T),
    ("2 hours 30 minutes", "2.5", N),
    ("12", "12.0001", F),
    ("12", "12.0", T),
    ("-0", "0", T),
    ("1/3", "0.3333333", T),
    ("1e3", "1000", T),
    ("007", "7", T),
    ("x\\in(1,2)", "(1,2)", T),
    ("x=1,\\ x=2", "1,2", T),
    ("x_1=1, x_2=2", "1,2", T),
    ("a=1,b=2", "b=2,a=1", T),
    ("a=1,b=2", "a=2,b=1", F),
    ("(1,2),(3,4)", "(3,4),(1,2)", T),
    ("(1,2),(3,4)", "(1,2)", F),
    ("\\frac{1}{2},-\\frac13", "-1/3, 1/2", T),
    ("5x", "5*x", T),
    ("2(3)", "6", T),
    ("3 \\cdot 4", "12", T),
    ("3\\times4", "12", T),
    ("2^3^2", "512", N),
    ("-2^2", "-4", T),
    ("(-2)^2", "4", T),
    ("1 - x", "x - 1", F),
    ("\\frac{a}{b}", "\\frac{b}{a}", F),
    ("\\sqrt{2}", "1.41", N),
    ("\\sqrt{2}", "1.414", T),
    ("\\pi", "3.14", N),
    ("3.14", "\\pi", T),
    ("90", "\\frac{\\pi}{2}", F),
    ("50 \\text{ percent}", "50\\%", T),
    ("\\pm 3", "3,-3", T),
    ("\\pm3", "\\{-3,3\\}", T),
    ("3", "\\pm 3", F),
]


@pytest.mark.parametrize(("gold", "prediction", "same"), [case for case in AS_SUITES_HAVE_THEM if case[2] is not N])
def test_pairs_in_the_style_of_other_projects_suites(gold: str, prediction: str, same: bool) -> None:
    """Those marked N are matters of convention and only must not raise."""
    assert equivalent(gold, prediction) is same


def test_what_is_a_matter_of_convention_does_not_raise() -> None:
    assert {equivalent(gold, prediction) for gold, prediction, same in AS_SUITES_HAVE_THEM if same is N} <= {
        True,
        False,
        None,
    }
