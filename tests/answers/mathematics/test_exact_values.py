"""Exact values are compared exactly; a tolerance belongs to rounded ones, in proportion to their size."""

import random
from fractions import Fraction

import pytest

from mpo_lightning.answers import Kind, Question, check, equivalent


def test_fractions_that_floats_cannot_tell_apart_differ() -> None:
    """Random pairs that differ in their last digits, as Python's fractions tell."""
    rng = random.Random(3)
    for _ in range(100):
        top, bottom = rng.randint(10**20, 10**21), rng.randint(10**20, 10**21)
        other = top + rng.choice([-1, 1])
        assert float(Fraction(top, bottom)) == pytest.approx(float(Fraction(other, bottom)), rel=1e-15)
        assert equivalent(rf"\frac{{{top}}}{{{bottom}}}", rf"\frac{{{other}}}{{{bottom}}}") is False
        assert equivalent(rf"\frac{{{top}}}{{{bottom}}}", rf"\frac{{{2 * top}}}{{{2 * bottom}}}") is True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("2^{70}", "2^{70}+1"),
        ("1-3^{-40}", "1"),
        (r"\frac{1}{25!}", "0"),
        (r"\frac{1}{25!}", r"\frac{1}{26!}"),
        (r"\sqrt{2}+10^{-30}", r"\sqrt{2}"),
        (r"\pi", r"\frac{245850922}{78256779}"),
        ("x+2^{-50}", "x"),
        ("7^{40}", "7^{40}-7"),
    ],
)
def test_values_that_are_close_are_not_equal(gold: str, said: str) -> None:
    assert equivalent(gold, said) is not True and equivalent(said, gold) is not True


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
        (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt{5}}{4}"),
        (r"\sin\pi", "0"),
        (r"\frac{1}{1999!}", "1/1999!"),
        (r"(1+\sqrt{5})^{10}", r"62976+28160\sqrt{5}"),
        (r"\sqrt{144}", "12"),
    ],
)
def test_equal_values_are_equal_with_many_digits(gold: str, said: str) -> None:
    assert equivalent(gold, said) is True


def test_a_value_too_large_to_compute_is_left_open() -> None:
    assert equivalent("9^{9^9}", "9^{9^8}") is None and equivalent("2000!", "2001!") is None


@pytest.mark.parametrize(
    ("gold", "said", "right"),
    [
        ("1.38e-23", "1.380649e-23", True),
        (r"1.38 \times 10^{-23}", "0", False),
        (r"1.38 \times 10^{-23}", "1.42e-23", False),
        ("0.004", "0.0", False),
        ("9.81", "9.8066", True),
    ],
)
def test_a_number_is_rounded_in_its_mantissa(gold: str, said: str, right: bool) -> None:
    assert check(f"Final answer: {said}", Question(Kind.FLOAT, gold, (), 2)).correct is right
