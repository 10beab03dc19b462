"""Which of a response's statements is its answer: its own, the last that stands, whole, and one."""

import pytest

from mpo_lightning.answers import Kind, Question, check
from mpo_lightning.answers.response.announcements import announcements

DIRECTIONS = ("north", "south", "east", "west")


def number(response: str, gold: str) -> bool | None:
    return check(response, Question(Kind.INTEGER, gold)).correct


def option(response: str, gold: str) -> bool | None:
    return check(response, Question(Kind.CHOICE, gold, DIRECTIONS)).correct


@pytest.mark.parametrize(
    ("response", "read"),
    [
        ("-\\boxed{6}", "-6"),
        ("\\boxed{6}\\sqrt{2}", "6\\sqrt{2}"),
        ("so $n > \\boxed{6}$", "n >6"),
        ("\\boxed{6} million", "6 million"),
        ("It is not \\boxed{6}", "not 6"),
        ("5 or \\boxed{6}", "5 or 6"),
        ("\\boxed{6} (or 7)", "6 or 7"),
        ("\\frac{5}{\\boxed{6}}", "\\frac{5}{6}"),
        ("- \\boxed{6}", "6"),
        ("$m = \\boxed{6}$ kg", "6"),
        ("the angle is $\\boxed{60}^\\circ$.", "60^\\circ"),
        ("$x=\\boxed{6}$ and $x=\\boxed{7}$", "6, 7"),
        ("$x=\\boxed{6}$ and $y=\\boxed{7}$", "x = 6, y = 7"),
    ],
)
def test_what_stands_around_a_box_belongs_to_it(response: str, read: str) -> None:
    assert announcements(response)[-1].text == read


@pytest.mark.parametrize(
    "response",
    [
        "Final answer: 8\nFinal answer: 9",
        "\\boxed{8}\n\n\\boxed{9}",
        "<answer>8</answer>\n<answer>9</answer>",
        "(a) The answer is 8.\n(b) The answer is 9.",
        "\\boxed{8}\nFinal answer: 9",
        "8 or \\boxed{9}",
        "Final answer: 9 (or 8)",
        "Final answer: 9, perhaps 8",
        "Final answer: 9 (8 without the broken one)",
        "Final answer: almost 9",
        "Final answer: opposite of 9",
        "Final answer: 9 degrees below zero",
        "The teacher's answer is 9.",
        "The wrong answer is 9.",
        "I doubt that the answer is 9.",
        "The answer would be 9 if all were counted.",
    ],
)
def test_several_answers_or_another_ones_are_left_open(response: str) -> None:
    assert number(response, "9") is None


@pytest.mark.parametrize(
    "response",
    [
        "\\boxed{8} is what I first got. Checking again: \\boxed{9}",
        "Final answer: 8. Oops, 9.",
        "Final answer: 8... no, 9",
        "Final answer: 8\nCorrection: 9",
        "Final answer: 8. Strike that, it is 9.",
        "Final answer: 8, I mean 9",
        "答案：8。更正：9",
        "Final answer: 9\nA common mistake: the answer is 8.",
        "Final answer: 9\n(The answer is 8 only if both are red.)",
        "Correct answer: 9\nYour answer: 8",
        "The answer to the first part is 8, so the answer is 9.",
        "Final answer\n9",
        '{"answer": "9", "why": "8 + 1"}',
        "Final answer: <b>9</b>",
        "<think>The answer is 8.</think>Final answer: 9",
        "Final answer: 9, since 8 would be too few",
        "Final answer: 9 (nine)",
        "Final answer: IX",
        "Final answer: 9 = n",
    ],
)
def test_the_answer_that_stands_is_read(response: str) -> None:
    assert number(response, "9") is True


def test_thoughts_without_an_end_are_no_answer() -> None:
    assert number("<think>The answer is 9. Or is it 8", "9") is False


@pytest.mark.parametrize(
    "response",
    [
        "Final answer: Option B",
        "Final answer: south (B)",
        "Final answer: b) south",
        "Final answer: \\(B\\)",
        "Final answer: Ⓑ",
        "Final answer: the second option",
        "The correct response is B.",
        "Final answer: A. Hmm, actually B.",
        "Final answer: A\n\nUser: Are you sure?\nAssistant: No, the answer is B.",
        "Final answer: B, because A or C would be too far",
    ],
)
def test_the_option_that_stands_is_read(response: str) -> None:
    assert option(response, "B") is True


@pytest.mark.parametrize(
    "response",
    [
        "Final answer: B, or possibly C",
        "Final answer: B. But C could also be right.",
        "Final answer: every direction but B",
        "Final answer: B|C",
        "Final answer: east (B)",
        "Final answer: B. east",
        "答案：B和C",
        "\\boxed{B}. Alternatively, \\boxed{C}.",
    ],
)
def test_an_option_beside_others_is_left_open(response: str) -> None:
    assert option(response, "B") is None


def test_ten_options_and_the_case_of_a_letter() -> None:
    ten = tuple(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
    assert check("Final answer: J", Question(Kind.CHOICE, "ten", ten)).correct is True
    assert check("Final answer: (I) nine", Question(Kind.CHOICE, "J", ten)).correct is False
    genes = ("rr", "Rr", "RR")
    assert check("Final answer: A", Question(Kind.CHOICE, "C", genes)).correct is False
    lettered = ("A) 3", "B) 5", "C) 7")
    assert check("Final answer: 5", Question(Kind.CHOICE, "B", lettered)).correct is True


@pytest.mark.parametrize("said", ["Yes/No", "No, yes", "Yes, but no", "not no", "There is no way to tell."])
def test_both_sides_are_none(said: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.CHOICE, "no", ("yes", "no"))).correct is not True


@pytest.mark.parametrize("said", ["Without any loss, 9 remain.", "I apologize for the confusion, the answer is 9."])
def test_harmless_words_are_no_refusal(said: str) -> None:
    assert number(said, "9") is True


@pytest.mark.parametrize(
    "response",
    [
        "Final answer: 8\n\nHold on, I misread the table: 9",
        "Final answer: 8. So I change my answer to 9.",
        "The right answer is 9.",
        "At first it seems \\boxed{8}. That is wrong.\n\\boxed{9}",
    ],
)
def test_more_ways_to_take_an_answer_back(response: str) -> None:
    assert number(response, "9") is True


@pytest.mark.parametrize("said", ["upwards of 9", "just shy of 9", "the absolute value of 9", "at least \\boxed{9}"])
def test_what_is_near_a_number_is_not_it(said: str) -> None:
    assert number(f"Final answer: {said}", "9") is None


def test_it_can_be_ruled_out_that_an_option_is_the_answer() -> None:
    assert option("It can be ruled out that the answer is B.", "B") is None
    assert option("Final answer: A, B, C, D - whichever fits", "B") is not True


def test_names_and_boxes_on_lines_of_their_own_are_one_list() -> None:
    assert announcements("p = \\boxed{3}\nq = \\boxed{5}")[-1].text == "p = 3, q = 5"
