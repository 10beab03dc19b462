"""What may stand behind a number: a unit is left out, a factor is not."""

import pytest

from mpo_lightning.answers import equivalent

FACTORS = [
    ("21", r"21\pi"),
    (r"17\pi", "17"),
    ("4", "4y"),
    ("6i", "6"),
    ("8pq", "8"),
    (r"30\infty", "30"),
    (r"5\sqrt{a}", r"5\sqrt{b}"),
    (r"2\log z", "2"),
    (r"6\pi h", r"6\pi"),
    ("9m/n", "9"),
    ("2.5t", "2.5"),
    ("7π", "7"),
    (r"11\theta", "11"),
]
UNITS = [
    ("21", "21 km"),
    ("21", r"21\,\mathrm{km}"),
    ("3", "3 boys"),
    ("72", "72 km/h"),
    ("35", "35°C"),
    ("35", r"35^\circ \text{C}"),
    ("9", "9 m"),
    ("14", "14kg"),
    ("6", "6 个"),
    ("2.5", r"2.5\ \text{m/s}^2"),
    ("40", "40 km per hour"),
    ("8", "8 cups of tea"),
]
BLANKS = [("43/4", "4 3/4"), ("25", "2 5"), ("3.5", "3. 5")]


@pytest.mark.parametrize(("gold", "prediction"), FACTORS + BLANKS)
def test_a_factor_is_no_unit_and_a_blank_parts_digits(gold: str, prediction: str) -> None:
    assert equivalent(gold, prediction) is not True
    assert equivalent(prediction, gold) is not True


@pytest.mark.parametrize(("gold", "prediction"), UNITS)
def test_a_unit_is_left_out(gold: str, prediction: str) -> None:
    assert equivalent(gold, prediction) is True
    assert equivalent(prediction, gold) is True


def test_a_value_of_a_formula_with_pi_is_its_rounded_number() -> None:
    assert equivalent(r"7\pi", "21.991") is True


def test_blanks_part_thousands() -> None:
    assert equivalent("1 234 567", "1234567") is True
