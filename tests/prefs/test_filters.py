"""The filters, each on a response that it is for and on one that it must leave alone."""

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.prefs.filters import FILTERS, check_filters, first_failed

GOOD = "The bars read 3 and 4. Their sum is 3 + 4 = 7.\n\nFinal answer: 7"
QUESTION = "<image>\nWhat is the sum of the bars?"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("empty", {"response": " \n"}),
        ("empty", {"response": None}),
        ("truncated", {"finished": False}),
        ("special_token", {"response": "I see <IMG_CONTEXT> 7"}),
        ("special_token", {"response": "I see <image> 7"}),
        ("special_token", {"response": "The dog is at <box>[[1, 2, 3, 4]]</box>"}),
        ("special_token", {"response": "<ref>dog</ref> 7"}),
        ("special_token", {"response": "<quad>1</quad> 7"}),
        ("special_token", {"response": "<|action_start|><|plugin|> 7"}),
        ("broken_text", {"response": "It is 7\ufffd"}),
        ("repetition", {"response": "The bar is tall and wide. " * 30}),
        ("repetition", {"response": "这个柱子很高也很宽。" * 30}),
        ("language_mix", {"response": "The sum is 七加四等于. Final answer: 7"}),
        ("language_mix", {"response": "Сумма равна 7. Final answer: 7"}),
        ("run_on", {"response": GOOD + "\n\nQuestion: What is the smallest bar?\nAnswer: 3"}),
    ],
)
def test_a_filter_catches(name: str, row: dict) -> None:
    assert first_failed({"question": QUESTION, "response": GOOD, "finished": True} | row, tuple(FILTERS)) == name


def test_good_responses_pass() -> None:
    for question, response in (
        (QUESTION, GOOD),
        ("图中柱子的和是多少？", "3 加 4 等于 7。\n\nFinal answer: 7"),
        ("What does 山 mean?", "The character 山水画 shows a mountain. Final answer: mountain"),
        (QUESTION, "Step 1: 3. Step 2: 4. Step 3: 3 + 4 = 7. " + GOOD),
    ):
        assert first_failed({"question": question, "response": response, "finished": True}, tuple(FILTERS)) is None, (
            response
        )


def test_filters_are_chosen_by_name_and_two_are_always_on() -> None:
    assert first_failed({"question": QUESTION, "response": GOOD, "finished": False}, ()) is None
    assert first_failed({"question": QUESTION, "response": "<|im_end|> 7"}, ()) == "special_token"
    with pytest.raises(InputError, match="there is no filter 'speed'; known are empty"):
        check_filters(["speed"])
