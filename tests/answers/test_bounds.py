"""Numbers beside the answer: bounds, spans and denials are not read, and do not hide the number that is."""

import pytest

from mpo_lightning.answers import Kind, Question, check


@pytest.mark.parametrize(
    "response",
    [
        "The age is below 7.",
        "There must be more than 7 cars.",
        "Fewer than 7",
        "At most 7 cars are red.",
        "It isn't 7.",
        "It is not 7.",
        "6 or 7",
        "I count six or 7 cars.",
        "6-7 cars",
        "It is somewhere between 6 and 7.",
        "7 or more",
        "至少7个",
        "不超过7个",
        "6到7个",
        "7以上",
    ],
)
def test_a_bound_is_no_answer(response: str) -> None:
    assert check(response, Question(Kind.INTEGER, "7")).correct is None, response


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("The number of trees above 20 metres is 6.", "6"),
        ("Six trees have a height above 20.", "6"),
        (("6 trees are taller than 20 metres."), "6"),
        (("There are 6 towns with fewer than 900 people."), "6"),
        ("The difference between 14 and 8 is 6.", "6"),
        ("It is not 7 but 6.", "6"),
        ("From 2003-2009 it rose by 6.", "6"),
        ("14-8 = 6", "6"),
    ],
)
def test_the_number_beside_a_bound_is(response: str, value: str) -> None:
    assert check(response, Question(Kind.INTEGER, value)).correct is True
