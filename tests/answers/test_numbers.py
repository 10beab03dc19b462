"""Numbers as people write them."""

from fractions import Fraction

import pytest

from mpo_lightning.answers.values.numbers import find_numbers, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-3", -3),
        ("−3", -3),
        ("1,234", 1234),
        ("1,234,567.5", Fraction("1234567.5")),
        (".5", Fraction(1, 2)),
        ("1/3", Fraction(1, 3)),
        ("2 1/2", Fraction(5, 2)),
        ("$4.50", Fraction("4.5")),
        ("45°", 45),
        ("45 degrees", 45),
        ("12 %", 12),
        ("3.2 x 10^4", 32000),
        ("1e-3", Fraction(1, 1000)),
        ("3.5 million", 3500000),
        ("twelve", 12),
        ("twenty-one", 21),
        ("two hundred and five", 205),
        ("one thousand", 1000),
        ("minus seven", -7),
        ("三", 3),
        ("三十五", 35),
        ("二〇一九", 2019),
        ("10 cm", 10),
        ("about 5", None),
        ("x2", None),
        ("3-5", None),
        ("", None),
        ("1/0", None),
        ("none here", None),
        ("1,2", None),
        ("9" * 200, None),
    ],
)
def test_a_short_text_is_a_number_or_none(text: str, value: int | Fraction | None) -> None:
    number = parse_number(text)
    assert (None if number is None else number.value) == value


def test_numbers_of_a_sentence_with_their_signs() -> None:
    text = "From 3-5 boxes (−2 each) to $1,000, R2D2 lost 12%, i.e. x-4 of -7."
    assert [float(number.value) for number in find_numbers(text)] == [3, 5, -2, 1000, 12, 4, -7]


def test_percent_is_kept_apart() -> None:
    assert [number.percent for number in find_numbers("5 % of 7, 8 percent")] == [True, False, True]
