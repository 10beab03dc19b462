"""Options in running text: letters of points, several options in one sentence, options judged one by one."""

import pytest

from mpo_lightning.answers import Kind, Question, check

LENGTHS = ("9", "12", "15", "18")
STAGES = ("seed", "sprout", "flower", "fruit")
LIQUIDS = ("liquid A", "liquid B", "neither")


def decision(response: str, gold: str, choices: tuple[str, ...]) -> bool | None:
    return check(response, Question(Kind.CHOICE, gold, choices)).correct


@pytest.mark.parametrize(
    "response",
    [
        "The line is tangent to the circle at B.",
        "It runs through point B.",
        "A chord joins A and B.",
        ("The centre of the circle is O, and it goes from B."),
    ],
)
def test_letters_of_a_drawing_are_no_options(response: str) -> None:
    assert decision(response, "12", LENGTHS) is not True


@pytest.mark.parametrize(
    ("response", "gold", "choices"),
    [
        ("PQ touches the circle at points B and C, and so its length is 18.", "18", LENGTHS),
        ("The sides meet at D. Option (C) is correct, since they are equal at A.", "15", LENGTHS),
        ("Together they have 9 + 6 = 15.", "15", LENGTHS),
        ("PR = \\sqrt{9^2 + 12^2} = 15", "15", LENGTHS),
        (("If PQ = 9 and QR = 12, the hypotenuse is 15."), "15", LENGTHS),
        ("Not 9 but 15.", "15", LENGTHS),
        ("The stage that comes after the sprout is the flower.", "flower", STAGES),
        (("The flower is formed first, followed by the fruit and the seed."), "flower", STAGES),
        ("The fruit would suffer because the flower and the seed need less water.", "fruit", STAGES),
        ("Liquid B is denser than liquid A.", "liquid B", LIQUIDS),
    ],
)
def test_of_several_options_the_one_that_is_said(response: str, gold: str, choices: tuple[str, ...]) -> None:
    assert decision(response, gold, choices) is True


@pytest.mark.parametrize(
    "response",
    [
        "A. seed – incorrect\nB. sprout – correct\nC. flower – incorrect\nD. fruit – incorrect",
        "A：种子，错误。\nB：芽，正确。\nC：花，错误。",
        ("A seed is wrong.\n✅ B. sprout"),
        "| A | wrong |\n| B | right |\n| C | wrong |",
        "A. seed: it is too early.\nB. sprout: this is correct.",
        "选项A错误，选项B正确。",
        "So B is right.",
        "Of all these only B fits.",
        "A、C、D都错误，B选项正确",
        "A. seed - wrong\nC. flower - wrong\nD. fruit - wrong",
    ],
)
def test_the_option_that_is_marked_right(response: str) -> None:
    assert decision(response, "sprout", STAGES) is True
    assert decision(response, "seed", STAGES) is False


def test_right_is_also_a_direction() -> None:
    assert decision("A. seed: it lies on the right side.\nB. sprout: this is correct.", "sprout", STAGES) is True


@pytest.mark.parametrize("response", ["A: sprout", "A: The sprout comes next.", "A: B"])
def test_a_with_a_colon_may_mean_answer(response: str) -> None:
    assert decision(response, "sprout", STAGES) is True
    assert decision(response, "seed", STAGES) is False


def test_a_last_line_of_one_letter_is_the_answer() -> None:
    response = "A seed is no sprout.\nThe flower has not opened.\n\nD"
    assert decision(response, "fruit", STAGES) is True
    assert decision("It does not open at all, and nothing grows.\n\nA", "yes", ("yes", "no")) is True


@pytest.mark.parametrize(
    "response", ["The answer is definitely B!", "So it's B!", "【B】", "应该选择B选项。", "B项正确", "So it must be B."]
)
def test_announcements(response: str) -> None:
    assert decision(response, "sprout", STAGES) is True


@pytest.mark.parametrize("response", ["\\boxed{B}. Final answer: C", "Final answer: B\n\n\\boxed{C}"])
def test_two_announcements_that_differ_decide_nothing(response: str) -> None:
    for gold in ("sprout", "flower"):
        assert decision(response, gold, STAGES) is None


def test_a_letter_against_its_own_text_has_little_confidence() -> None:
    verdict = check(
        "\\boxed{(C) \\frac{1}{5}}", Question(Kind.CHOICE, "C", ("$\\frac{1}{5}$", "$\\frac{1}{6}$", "$\\frac{1}{7}$"))
    )
    assert verdict.confidence < 0.7


@pytest.mark.parametrize(
    ("response", "word"),
    [
        ("Navy Blue is the tallest. There are no taller bars.", "yes"),
        (("Teal is larger than gold, as no other slice exceeds it."), "yes"),
        (("It is the smallest, not Teal."), "yes"),
        ("Gold is the highest, while Teal is not.", "yes"),
        ("Gold has 40, so it is not the highest.", "no"),
        ("No, Teal is.", "no"),
        ("There is no such bar.", "no"),
        ("Nope.", "no"),
        ("Yeah", "yes"),
    ],
)
def test_a_no_in_front_of_a_noun_is_no_answer(response: str, word: str) -> None:
    assert decision(response, word, ("yes", "no")) is True
    assert decision(response, {"yes": "no", "no": "yes"}[word], ("yes", "no")) is False


def test_one_thing_affirmed_and_another_denied_is_undecided() -> None:
    assert decision("The mapping is onto, but not one-to-one.", "yes", ("yes", "no")) is None


def test_a_bound_is_no_option_and_both_sides_are_none() -> None:
    assert decision("Final answer: more than 12", "12", LENGTHS) is None
    assert decision("Final answer: yes and no", "yes", ("yes", "no")) is not True
