"""What holds a number or an option without saying it: formulas, denials, bounds, alternatives, corrections, other
units. A false "right" would become a chosen wrong answer.
"""

import pytest

from mpo_lightning.answers import Kind, Question, check

OPTIONS = ("w", "x", "y", "z")
SHAPES = ("square", "circle", "triangle")
SIDES = ("Yes", "No")


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("4\\pi", "4"),
        ("4π", "4"),
        ("\\sqrt{16}", "16"),
        ("$4\\sqrt{3}$", "3"),
        ("$\\dfrac{\\sqrt3}{2}$", "2"),
        ("2a+3", "3"),
        ("2x", "2"),
        ("$2^{3}$", "3"),
        ("$5!$", "5"),
        ("\\log_{2} 8", "8"),
        ("$\\frac{10}{\\pi}$", "10"),
        ("not 5", "5"),
        ("definitely not 5", "5"),
        ("less than 5", "5"),
        ("at most 5", "5"),
        ("5 or more", "5"),
        ("y > 5", "5"),
        ("10-12", "12"),
        ("3:4", "4"),
        ("(3, 5)", "5"),
        ("x = 1, y = 2", "2"),
        ("3 and 4", "4"),
        ("5 hours 30 minutes", "30"),
        ("8 (4 on each side)", "4"),
        ("12 (3 rows of 4)", "4"),
        ("50% of 80", "80"),
        ("5, not 6.", "6"),
    ],
)
def test_a_number_that_an_answer_only_holds_is_not_its_value(said: str, held: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.INTEGER, held)).correct is not True


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("\\sqrt{16}", "4"),
        ("$2^{3}$", "8"),
        ("5!", "120"),
        ("5, not 6.", "5"),
        ("8 (4 on each side)", "8"),
        ("12 (3 rows of 4)", "12"),
        ("20 (out of 80)", "20"),
        ("1,000", "1000"),
        ("-3", "-3"),
        ("3 apples", "3"),
        ("5 cm^2", "5"),
        ("2 \\times 10^5", "200000"),
        ("a dozen", "12"),
        ("1.5M", "1500000"),
        ("3 + 4 = 7", "7"),
        ("\\(36\\text{ cm}^2\\)", "36"),
    ],
)
def test_its_value_is(said: str, value: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.INTEGER, value)).correct is True


@pytest.mark.parametrize(
    ("response", "gold", "choices"),
    [
        ("Option D is wrong.", "D", OPTIONS),
        ("(B) is false.", "B", OPTIONS),
        ("Choice C can be ruled out.", "C", OPTIONS),
        (("Option A is incorrect. Option B is correct."), "A", OPTIONS),
        ("答案不是B", "B", OPTIONS),
        ("C 不对", "C", OPTIONS),
        ("It's either A or B.", "B", OPTIONS),
        ("因此答案为 A 或 B", "A", OPTIONS),
        ("I'd go with B over A", "A", OPTIONS),
        ("The answer is A. Wait, that is wrong. It should be C.", "A", OPTIONS),
        ("The answer: A. No wait, C.", "A", OPTIONS),
        ("It doesn't look like a circle.", "B", SHAPES),
        ("It could never be a circle.", "B", SHAPES),
        ("It is anything but a circle", "B", SHAPES),
        ("It is unlike a circle", "B", SHAPES),
        ("nothing to do with gravity", "B", ("wind", "gravity")),
        ("no evidence for gravity", "B", ("wind", "gravity")),
        ("The answer is not yes.", "Yes", SIDES),
        ("No doubt there is a dog", "No", SIDES),
        (("Not only is there a dog, there is a cat"), "No", SIDES),
        ("There are zero dogs", "Yes", SIDES),
        ("Nobody is in the picture", "Yes", SIDES),
        ("The dog is absent", "Yes", SIDES),
        (("The image fails to show a dog"), "Yes", SIDES),
        ("The statement is untrue", "Yes", SIDES),
        ("This is a picture without a dog", "Yes", SIDES),
        ("It would be wrong to say yes.", "Yes", SIDES),
    ],
)
def test_what_is_denied_or_taken_back_is_not_the_answer(response: str, gold: str, choices: tuple[str, ...]) -> None:
    assert check(response, Question(Kind.CHOICE, gold, choices)).correct is not True


@pytest.mark.parametrize(
    ("response", "gold", "choices"),
    [
        ("Option A is incorrect. Option B is correct.", "B", OPTIONS),
        ('{"answer": "B"}', "B", OPTIONS),
        ("<answer>B</answer>", "B", OPTIONS),
        ("I can't see a dog.", "No", SIDES),
        ("I don't see any dog", "No", SIDES),
        ("The answer is not B. It is D.", "D", OPTIONS),
        (("It is a square, not a circle."), "A", SHAPES),
    ],
)
def test_what_is_left_is(response: str, gold: str, choices: tuple[str, ...]) -> None:
    assert check(response, Question(Kind.CHOICE, gold, choices)).correct is True


def test_a_correction_counts() -> None:
    response = "The answer is 8.\n\nActually, let me recompute: 3 + 4 = 7. So it's 7."
    assert [check(response, Question(Kind.INTEGER, gold)).correct for gold in ("7", "8")] == [True, False]


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("\\sqrt{x^2}", "x"),
        ("|x|", "x"),
        ("\\max(x,0)", "x"),
        ("\\arcsin(\\sin x)", "x"),
        ("\\text{less than } 5", "5"),
        ("\\text{not } 5", "5"),
        ("5\\text{ or more}", "5"),
        ("6\\text{ m}", "6\\text{ km}"),
        ("5\\text{ cm}", "5\\text{ m}"),
        ("6\\text{ hours}", "6\\text{ minutes}"),
    ],
)
def test_expressions_that_only_look_equal(said: str, gold: str) -> None:
    assert check(f"\\boxed{{{said}}}", Question(Kind.EXPRESSION, gold)).correct is not True


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("one third", "1/3"),
        ("three quarters", "3/4"),
        ("0.\\overline{3}", "1/3"),
        ("0.1\\overline{6}", "\\frac{1}{6}"),
        ("6\\text{ hrs}", "6\\text{ hours}"),
        ("5\\text{ cm}", "5"),
    ],
)
def test_other_forms_of_the_same(said: str, gold: str) -> None:
    assert check(f"\\boxed{{{said}}}", Question(Kind.EXPRESSION, gold)).correct is True


@pytest.mark.parametrize(
    ("said", "value"),
    [("两万", "20000"), ("3.5万", "35000"), ("负五", "-5"), ("三十五", "35"), ("一亿二千万", "120000000")],
)
def test_chinese_numbers(said: str, value: str) -> None:
    assert check(f"答案是{said}", Question(Kind.INTEGER, value)).correct is True


def test_lists_and_words() -> None:
    assert check("[1,2,3] is wrong; it's [1,2,4]", Question(Kind.LIST, "[1,2,3]")).correct is not True
    assert check("Final answer: Paris or London", Question(Kind.TEXT, "Paris")).correct is None
