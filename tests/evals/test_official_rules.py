"""The benchmarks' own rules by hand, their faults included; and where ours differs."""

import pytest

from mpo_lightning.evals.benchmarks.m3cot import official_letter
from mpo_lightning.evals.benchmarks.mathvista import edit_distance, official_prediction
from mpo_lightning.evals.benchmarks.pope import official_word
from mpo_lightning.evals.registry import all_benchmarks
from mpo_lightning.evals.rules.mathvision_rules import official_answer, official_correct

CHOICE = {"choices": ["red", "green", "greenish"], "answer_type": "text", "answer": "green"}
WHOLE = {"choices": None, "answer_type": "integer", "answer": "5"}


@pytest.mark.parametrize(
    ("extraction", "prediction"),
    [("B", "green"), ("(b) whatever", "green"), ("green", "green"), ("gren", "green"), ("", "red"), ("N/A", "red")],
)
def test_mathvista_snaps_to_the_nearest_choice(extraction: str, prediction: str) -> None:
    """Also an empty extraction: the choice with the fewest letters, which is how a refusal can become right."""
    assert official_prediction(CHOICE, extraction, "2023") == prediction


def test_mathvistas_two_normalisers_of_whole_numbers() -> None:
    assert [official_prediction(WHOLE, text, "2023") for text in ("5", "5.0", "5.7", "five")] == ["5", None, None, None]
    assert [official_prediction(WHOLE, text, "2025") for text in ("5", "5.0", "5.7", "five")] == ["5", "5", "5", None]
    assert official_prediction({"choices": None, "answer_type": "float", "precision": 1}, "3.25", "2023") == "3.2"


def test_mathvista_reads_the_first_trigger_and_one_line_as_the_reference_does() -> None:
    score = all_benchmarks()["mathvista"].score
    response = "Answer: 4 is too small.\nFinal answer: 5"
    assert score(WHOLE, response, "official").verdict.correct is False
    assert score(WHOLE, response, "robust").verdict.correct is True
    assert score(WHOLE | {"extraction": "5"}, "no matter", "official").verdict.correct is True


def test_edit_distance_by_hand() -> None:
    assert [edit_distance(*pair) for pair in (("", "abc"), ("kitten", "sitting"), ("same", "same"), ("ab", "ba"))] == [
        3,
        3,
        0,
        2,
    ]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("So we choose B.", "b"),
        ("(C)\nbecause", "c"),
        ("The sum is 12.", "12"),
        ("the answer is 3. It was easy", "3"),
        ("The answer is: x=7", "7"),
        ("\\boxed{2} then \\boxed{\\frac{3}{4}}", "\\frac{3}{4}"),
        ("It is \\boxed{1/2}", "\\frac{1}{2}"),
        ("\\boxed{60^{\\circ}}", "60"),
        ("0.5", "\\frac{1}{2}"),
        ("\\boxed{\\text{(D)}}", "d"),
        ("\\boxed{\\sqrt3}", "\\sqrt{3}"),
    ],
)
def test_mathvisions_answer(response: str, answer: str) -> None:
    assert official_answer(response) == answer


def test_mathvisions_equality() -> None:
    assert official_correct("b", "B", ["1", "2", "3", "4", "5"]) and official_correct(
        "2", "B", ["1", "2", "3", "4", "5"]
    )
    assert official_correct("0.333", "\\frac{1}{3}", []) and not official_correct("0.4", "\\frac{1}{3}", [])
    assert official_correct("(1,2.001)", "(1,2)", []) and not official_correct("", "3", [])
    assert not official_correct(
        "32\\mathrm{~cm}", "C", ["$28$", "$30$", "$32 \\mathrm{~cm}$", "1", "2"]
    )  # right, but their parser knows no units


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("(A) no, (C)", "C"),
        ("it is the cat", "A"),
        ("B", "B"),
        ("choose b!", "B"),
        ("none", None),
        ("[Answer] (B) [Rationale] (A)", "B"),
    ],
)
def test_m3cots_letter(response: str, letter: str | None) -> None:
    assert official_letter(response, ["cat", "dog", "a horse"]) == letter


@pytest.mark.parametrize(
    ("response", "word"),
    [
        ("No", "no"),
        ("Yes, no doubt", "no"),
        ("", "yes"),
        ("No\n", "yes"),
        ("NO", "yes"),
        ("There is not. Yes", "no"),
        ("No, there is", "no"),
    ],
)
def test_popes_word(response: str, word: str) -> None:
    assert official_word(response)[0] == word


def test_popes_robust_word_differs_where_the_official_rule_is_at_fault() -> None:
    score = all_benchmarks()["pope"].score
    row = {"label": "no", "id": "1"}
    assert [
        score(row, text, "robust").verdict.correct
        for text in ("No\n", "NO!", "", "banana?", "Yes.", "There is no dog.")
    ] == [True, True, None, None, False, True]


@pytest.mark.parametrize(("gold", "kind", "said"), [(7, "integer", "7"), (1.5, "float", "1.52")])
def test_mathvistas_gold_may_be_a_json_number(gold: float, kind: str, said: str) -> None:
    row = {"choices": None, "answer_type": kind, "precision": 1, "answer": gold}
    assert all_benchmarks()["mathvista"].score(row, said, "official").verdict.correct is True


def test_mathvista_rows_that_contradict_themselves_are_named() -> None:
    row = {"question_type": "multi_choice", "answer_type": "text", "answer": "red", "choices": ["red", "green"]}
    problem = all_benchmarks()["mathvista"].problem
    assert problem(row) is None
    assert "has no choices" in str(problem(row | {"choices": None}))
    assert "none of its choices" in str(problem(row | {"answer": "blue"}))


def test_mathvisions_plain_golds_are_looked_for_among_words() -> None:
    row = {"answer": "9", "options": []}
    response = (
        "First 4 squares are cut off and then 5 others, and I count all that is left over. So he keeps 9 "
        "squares out of 18."
    )
    assert all_benchmarks()["mathvision"].score(row, response, "robust").verdict.correct is True


@pytest.mark.parametrize(
    ("response", "asked", "word"),
    [
        ("I can't see a kite in this picture.", "kite", "no"),
        ("The picture features a kite.", "kite", "yes"),
        ("There's a kite.", "kite", "yes"),
        ("There isn't.", "kite", "no"),
        ("Nope", "kite", "no"),
        ("Yeah", "kite", "yes"),
        ("The picture shows a bird, not a kite.", "kite", "no"),
        (("The picture shows a bird, not a kite."), "bird", "yes"),
        (("I see a kite. There are no birds."), "kite", "yes"),
        ("I see a kite. There are no birds.", "bird", "no"),
        ("It depicts two kites and a dog without a leash.", "kite", "yes"),
        ("Not in the picture.", "kite", "no"),
    ],
)
def test_pope_reads_statements_about_what_was_asked_for(response: str, asked: str, word: str) -> None:
    row = {"text": f"Is there a {asked} in the image?", "label": word, "category": "random"}
    assert all_benchmarks()["pope"].score(row, response, "robust").verdict.prediction == word
