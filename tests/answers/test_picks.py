"""Which number of several is the answer, and how numbers are spelled."""

import pytest

from mpo_lightning.answers import Kind, Question, check

PICKS = [
    ("Therefore, 3 of the 9 windows are open.", "3"),
    ("Out of 12 birds, 5 are left.", "5"),
    ("Taking away 7 leaves 6.", "6"),
    (("Originally there were 20 cups; 8 broke; 12 remain."), "12"),
    ("5 bridges were built in 1987.", "5"),
    ("Final answer: 6 (61, 63, 67, 69, 60, 68)", "6"),
    ("Final answer: 6 = 14 - 8", "6"),
    ("Final answer: 6 (4 + 2)", "6"),
    ("Final answer: 6 (not 7)", "6"),
    ("Final answer: 6 of 9", "6"),
    (("Final answer: The difference is 6 (9 - 3)."), "6"),
    ("Final answer: 2 dozen", "24"),
    ("Adding 9 and 8 gives 17.", "17"),
    ("There are 15 balls in total. Removing 9 balls leaves 6 balls.", "6"),
    ("It opened in 1987.", "1987"),
    (("The best year was 1987, with 45 units."), "1987"),
]
SPELLED = [
    ("minus 8", "-8"),
    ("negative 8", "-8"),
    ("Final answer: negative eight", "-8"),
    ("10 minus 8", None),
    ("Answer:\n- 8", "8"),
    ("half a dozen", "6"),
    ("two and a half", "2.5"),
    ("3 and a half", "3.5"),
    ("三分之二", "2/3"),
    ("Final answer: 12 000", "12000"),
    ("Final answer: $\\sqrt{81}$ m/s", "9"),
    ("6²", "36"),
    ("-1\\frac{1}{4}", "-1.25"),
]


@pytest.mark.parametrize(("response", "value"), PICKS)
def test_the_number_that_is_the_result(response: str, value: str) -> None:
    assert check(response, Question(Kind.INTEGER, value)).correct is True


@pytest.mark.parametrize(("response", "value"), SPELLED)
def test_spellings(response: str, value: str | None) -> None:
    kind = Kind.EXPRESSION if value and "/" in value else Kind.FLOAT
    assert (check(response, Question(kind, value or "-8")).correct is True) is (value is not None)


@pytest.mark.parametrize(
    "said",
    [
        "The lengths are 6 and 8",
        "half of 6",
        "twice 6",
        "the square root of 6",
        "6 squared",
        "6 times as many",
        "6ab",
        "\\boxed{6\\alpha}",
        "6 (2 + 3)",
        "6 + t",
        "6 less than 9",
        "There are 6 cats and 7 dogs",
        ("it cannot be determined, maybe 6"),
        "6 dozen",
        "log 6",
        "\\boxed{6\\text{ million}}",
    ],
)
def test_a_number_in_a_calculation_is_not_its_result(said: str) -> None:
    for kind in (Kind.INTEGER, Kind.EXPRESSION):
        assert check(f"Final answer: {said}", Question(kind, "6")).correct is not True, kind


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Final answer: 9. On Mondays people wait 20 minutes.", "9"),
        (("Final answer: 9. Let me recheck the units: 3 m times 3 m."), "9"),
        (("The answer is 9. Some would say 8; this is wrong because one is hidden."), "9"),
        ("The answer is 8. Wait, I forgot one. The answer is 9.", "9"),
        (("I get 8. Hold on, that is wrong, it should be 9."), "9"),
    ],
)
def test_only_what_another_answer_follows_is_taken_back(response: str, answer: str) -> None:
    assert check(response, Question(Kind.INTEGER, answer)).correct is True
    assert check(response, Question(Kind.INTEGER, "20")).correct is not True


def test_a_box_against_the_final_answer_decides_nothing() -> None:
    for gold in ("8", "7"):
        assert check("\\boxed{8}\n\nFinal answer: 7", Question(Kind.INTEGER, gold)).correct is None


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("\\boxed{9+8=17}", "17"),
        ("\\boxed{\\frac{10}{15}=\\frac{2}{3}}", "\\frac23"),
        (("Final answer: 5\\pi \\approx 15.71"), "5\\pi"),
        ("$35^2=1225$", "1225"),
        (("Final answer: 17 tiles, of which 8 are blue"), "17"),
        ("Final answer: 17 (9 + 8)", "17"),
        ("Final answer: 17, as shown above", "17"),
        (("Final answer: She needs 17 minutes."), "17"),
        ("Final answer: 7 (seven)", "7"),
        (("The perimeter measures 17 metres"), "17"),
        ("Final answer: 3/5 of the field", "\\frac{3}{5}"),
        ("Final answer: 7π cm²", "7\\pi"),
        ("\\boxed{4\\sqrt{5} cm}", "4\\sqrt{5}"),
    ],
)
def test_an_equation_or_words_around_a_formulas_value(said: str, gold: str) -> None:
    assert check(said, Question(Kind.EXPRESSION, gold)).correct is True


def test_words_that_stay_unread_leave_an_answer_open() -> None:
    assert (
        check("Final answer: the triangle with sides p and q", Question(Kind.EXPRESSION, "\\frac{3}{7}")).correct
        is None
    )
    assert check("\\boxed{7\\% = 0.07}", Question(Kind.EXPRESSION, "0.7")).correct is None


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("4000 m", "4 km"),
        ("0.8 m", "80 cm"),
        ("180 minutes", "3 hours"),
        ("0.3", "30\\%"),
        ("\\frac{\\pi}{3}", "60^\\circ"),
        ("4 m", "4 km"),
        ("7 kg", "9 g"),
    ],
)
def test_another_unit_is_left_open(said: str, gold: str) -> None:
    assert check(f"\\boxed{{{said}}}", Question(Kind.EXPRESSION, gold)).correct is None


def test_a_whole_number_in_another_unit_is_left_open() -> None:
    assert check("Final answer: 4000 m", Question(Kind.INTEGER, "4 km")).correct is None
    assert check("Final answer: 0.3", Question(Kind.INTEGER, "30%")).correct is None
