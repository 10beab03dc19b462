"""Mathematics that is the same, and that is not."""

import random
from fractions import Fraction

import pytest

from mpo_lightning.answers import equivalent
from mpo_lightning.answers.evaluate import values
from mpo_lightning.answers.expressions import parse

SAME = [
    (r"\frac{1}{2}", "0.5"), (r"\frac12", "1/2"), (r"\dfrac{3}{4}", ".75"), (r"3\sqrt{13}", r"\sqrt{117}"), ("10,000", "10000"), (r"10{,}000", "10000"),
    (r"90^\circ", "90"), (r"90^{\circ}", "90 degrees"), (r"\$10", "10"), (r"10\%", "10%"), ("3", "three sides"), ("x = 5", "5"), ("5", "x=5"), (r"x \in [0, 1)", "[0,1)"),
    (r"\left(1, 2\right)", "(1,2)"), (r"\{1, 2\}", r"\{2, 1\}"), ("1, 2", "2, 1"), (r"1 \text{ and } 2", "1, 2"), (r"(0, \infty)", r"(0,+\infty)"),
    (r"2x + 2", "2(x+1)"), (r"(x+1)^2", "x^2+2x+1"), (r"\sin^2 x + \cos^2 x", "1"), ("x > 5", "5 < x"), (r"x \ge 3", "3 ≤ x"), ("2x = 4y", "x = 2y"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"), (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"), (r"\binom{5}{2}", "10"),
    ("5!", "120"), (r"\log_2 8", "3"), (r"e^{i\pi}", "-1"), (r"\text{odd}", "odd"), (r"3\pi", "3π"), ("2^{10}", "1024"), (r"\sqrt[3]{-8}", "-2"),
    (r"3\frac{1}{2}", "3.5"), (r"15\text{ cm}^2", "15"), (r"|{-3}|", "3"), (r"(2,3) \cup (5, 7)", r"(2,3)\cup(5,7)"), ("3.142", r"\pi"), ("a_3 = 2, a_4 = 5", "a_4 = 5, a_3 = 2"),
]  # fmt: skip
DIFFERENT = [
    ("4", "-4"), ("24/25", "-24/25"), ("(1,2)", "(-1,2)"), ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("x > 5", "x < 5"), ("x > 5", r"x \ge 5"), ("1", "10"),
    ("34", "35"), ("100", "104"), (r"\sqrt{2}", "2"), (r"\pm 3", "3"), ("f(x)", "f(y)"), ("7 = 11a + c", "11a + c"), ("0.3", r"\frac{1}{3}"), ("abc", "xyz"),
    ("1, 2", "1, 2, 3"), (r"x^2", "2x"), (r"\{1,2\}", "(1,2"), ("12102", "(12,102)"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "prediction"), SAME)
def test_the_same(gold: str, prediction: str) -> None:
    assert equivalent(gold, prediction) is True
    assert equivalent(prediction, gold) is True or gold == "3.142"


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
        return (f"{left} + {right}", first + second) if kind == "+" else (rf"{left} - \left({right}\right)", first - second)

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
