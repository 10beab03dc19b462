"""Responses as models write them, each with the decision that a person would make."""

import pytest

from mpo_lightning.answers import Kind, Question, check

COLOURS = ("red", "blue", "green", "dark green")


def choice(gold: str, *choices: str) -> Question:
    return Question(Kind.CHOICE, gold, choices or COLOURS)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("b.", "B"),
        ("B. blue", "B"),
        ("blue", "B"),
        ("The answer is B.", "B"),
        ("**Final answer:** B", "B"),
        ("Final answer:\nB", "B"),
        ("Final answer: (B) blue", "B"),
        ("\\boxed{B}", "B"),
        ("$\\boxed{\\text{(B)}}$", "B"),
        (("The answer is \\boxed{\\text{blue}}."), "B"),
        ("答案是B。", "B"),
        ("答案：B", "B"),
        ("故选B", "B"),
        ("所以选项B是正确答案。", "B"),
        ("Answer: A? No, that is not it.\nFinal answer: B", "B"),
        (("Based on the picture, it is blue."), "B"),
        ("The sky is dark green today.", "D"),
        ("A dog stands there, and the ball is blue.", "B"),
        (("So the correct option is (B)."), "B"),
        (("It could be red. Therefore, it is blue."), "B"),
        ("B\n\nThe sky is blue because red light is scattered less.", "B"),
        ("<think>maybe A</think>\nB</s>", "B"),
        ("The answer is B, not C.", "B"),
        ("The answer is (B) blue.\n\nQuestion: What is red?\nAnswer: (A)", "B"),
        (("I first thought the answer is A. The answer is B."), "B"),
    ],
)
def test_the_option_that_is_meant(response: str, letter: str) -> None:
    verdict = check(response, choice("blue"))
    assert verdict.prediction == letter, verdict
    assert verdict.correct is (letter == "B")


@pytest.mark.parametrize("response", ["", "   ", "I'm sorry, I cannot answer this question.", "无法确定"])
def test_nothing_and_refusals_are_wrong(response: str) -> None:
    assert check(response, choice("red")).correct is False
    assert check(response, Question(Kind.INTEGER, "3")).correct is False


@pytest.mark.parametrize(
    "response",
    ["A or B", "\\boxed{A, B}", "purple", "(A) and (C)", "\\boxed{17}", "(A) red\n(B) blue\n(C) green\n(D) dark green"],
)
def test_what_names_no_option_is_undecided(response: str) -> None:
    assert check(response, choice("red")).correct is None


def test_yes_and_no_in_statements() -> None:
    question = choice("No", "Yes", "No")
    assert check("Coral is not the roughest, as it is ranked 38th.", question).correct is True
    assert check("There are fewer red trucks than bicycles.", question).correct is False
    assert check("No, there are more.", question).correct is True


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        ("3", "3", True),
        ("3.0", "3", True),
        ("three", "3", True),
        ("The answer is 3.", "3", True),
        ("-3", "3", False),
        ("13", "3", False),
        ("3.5", "3", False),
        ("So 1 + 2 = 3 squares", "3", True),
        ("Final answer: $1,234", "1234", True),
        (("There are 3 cats and 5 dogs.\nFinal answer: 8"), "8", True),
        ("Between 2010 and 2014 it rose by 12 %.\nTherefore, the answer is 12.", "12", True),
        (("Final answer: \\boxed{45^\\circ}"), "45", True),
        ("答案是三十五", "35", True),
        ("The final answer is: 7 apples", "7", True),
        ("\\boxed{3} is wrong. The answer is 4.", "4", True),
        (("The number of bars larger than 30 is 4."), "4", True),
        ("a = 5\nb = 7\nTherefore, the sum is 5 + 7 = 12 cm.", "12", True),
        (("1. Count the cats\n2. Count the dogs\n\nThe result is 6"), "6", True),
        ("The age gap is 8 years. The woman was born in 1970", "8", True),
        ("**Answer:** 5", "5", True),
        ("Answer: \n\n5", "5", True),
    ],
)
def test_whole_numbers(response: str, gold: str, right: bool) -> None:
    assert check(response, Question(Kind.INTEGER, gold)).correct is right


def test_decimals_are_rounded_to_the_precision_that_was_asked_for() -> None:
    question = Question(Kind.FLOAT, "1.2", (), 1)
    assert [check(text, question).correct for text in ("1.2", "1.23", "1.3", "The value is 1.19 m.", "6/5")] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_lists() -> None:
    question = Question(Kind.LIST, "[1, 2.5, 3]")
    assert check("Final answer: [1, 2.5, 3.0]", question).correct is True
    assert check("The list is [3, 1, 2.5]", question).correct is False
    assert check("no idea", question).correct is None


def test_expressions_among_words() -> None:
    assert check("Thus the area is $\\frac{3\\sqrt{3}}{2}$.", Question(Kind.EXPRESSION, r"1.5\sqrt{3}")).correct is True
    assert (
        check(
            "We get $x^2 = 9$. Final Answer: The final answer is $\\pm 3$. I hope it is correct.",
            Question(Kind.EXPRESSION, "3, -3"),
        ).correct
        is True
    )
    assert check("\\boxed{2} and \\boxed{5}", Question(Kind.EXPRESSION, "5, 2")).correct is True
    assert check("The answer is Evelyn.", Question(Kind.TEXT, r"\text{Evelyn}")).correct is True


def test_a_value_that_is_an_option_counts_and_one_that_is_none_does_not_fall_back_on_what_else_is_said() -> None:
    question = choice("B", r"$\frac{1}{3}$", r"$\frac{2}{3}$", r"$1$")
    assert check("... = \\boxed{\\frac{4}{6}}", question).prediction == "B"
    verdict = check("The middle is $\\frac{2}{3}$, so the fraction is \\boxed{\\frac{9}{16}}.", question)
    assert verdict.correct is None and verdict.rule == "boxed/none of the options"


def test_a_decision_names_its_rule_and_quotes_the_response() -> None:
    verdict = check("Let me see.\n\nFinal answer: (C) green", choice("red"))
    assert (verdict.correct, verdict.extraction, verdict.prediction) == (False, "(C) green", "C")
    assert verdict.rule == "final answer/letter and text" and 0.8 < verdict.confidence < 1


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("是的，图中有一只猫。", True),
        ("不，图中没有猫。", False),
        ("There is a cat beside the door.", True),
        ("The cat", None),
        ("Let me look at the cat:", None),
    ],
)
def test_a_yes_or_no_that_is_not_spelled_out(response: str, right: bool | None) -> None:
    """A statement affirms or denies; words without a verb do neither."""
    assert check(response, Question(Kind.CHOICE, "yes", ("yes", "no"))).correct is right


def test_an_answer_that_is_called_impossible_is_a_refusal() -> None:
    verdict = check("The answer is impossible to read off, since the scale is missing.", Question(Kind.INTEGER, "7"))
    assert verdict.correct is False and verdict.rule == "refusal"
