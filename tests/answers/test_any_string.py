"""No string raises, and none takes long: the work grows with the length of what is read, which is bounded."""

import random
import threading
import time

from mpo_lightning.answers import Kind, Question, check
from mpo_lightning.evals.registry import all_benchmarks

QUESTIONS = [
    Question(Kind.CHOICE, "B", ("one (1)", "\\frac{1}{2}", "", "[a-z]*+?")),
    Question(Kind.CHOICE, "yes", ("yes", "no")),
    Question(Kind.INTEGER, "3"),
    Question(Kind.FLOAT, "1.25", (), 2),
    Question(Kind.LIST, "[1, 2]"),
    Question(Kind.EXPRESSION, r"\frac{1}{2}, x^2"),
    Question(Kind.TEXT, "an odd one"),
    Question(Kind.INTEGER, "not a number"),
    Question(Kind.CHOICE, "Z", ("a", "b")),
]
PIECES = [
    "\\boxed{",
    "}",
    "{",
    "(",
    ")",
    "\\frac",
    "$",
    "Final answer:",
    "The answer is ",
    "A",
    "B.",
    "\n",
    " ",
    "1",
    "-",
    "/",
    "0",
    "^",
    "_",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    ",",
    "|",
    "!",
    "%",
    "±",
    "=",
    "<",
    "≤",
    "∪",
    "\\sqrt",
    "é",
    "答案",
    "三",
    "\x00",
    "\x01",
    "\x02",
    "\ud800",
    "🙂",
    "e5",
    "1e999",
    "９",
    "（",
    "therefore",
    ". ",
    "yes",
    "not",
    "\\text{",
    "\\in",
    "\\infty",
    "[",
    "]",
    ";",
    ":",
    "#",
    "**",
    "is",
    "x",
    "</think>",
    "\\left",
    "\\right",
    "'",
    '"',
    "\\",
    "1/0",
    "999999999999",
]
ROWS = {
    "mathvista": {
        "pid": "1",
        "answer": "3",
        "question_type": "free_form",
        "answer_type": "float",
        "precision": 1,
        "choices": None,
    },
    "mathvision": {"id": "1", "answer": "\\frac{1}{2}", "options": []},
    "m3cot": {"id": "1", "answer": "A", "choices": ["x", "(b)"]},
    "pope": {"id": "1", "label": "yes"},
    "crpe": {"id": "1", "correct_option": "A", "category": "subject", "text": "What?\nA. x\nB. y"},
    "equivalence": {"id": 1, "gold": "x = 3"},
}


def test_random_texts() -> None:
    rng = random.Random(1)
    for _ in range(1500):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 40)))
        for question in QUESTIONS:
            verdict = check(text, question)
            assert verdict.correct in (True, False, None) and 0 <= verdict.confidence <= 1
        for name, row in ROWS.items():
            for mode in ("official", "robust"):
                all_benchmarks()[name].score(row, text, mode)  # type: ignore[arg-type]


def test_a_hundred_thousand_characters_take_no_longer_than_what_is_read_of_them() -> None:
    """Not a measurement of speed: a pattern that backtracks would take minutes or years."""
    rng = random.Random(2)
    more = [
        "the answer is ",
        "(A) ",
        "1,",
        "1 1/2 ",
        "a^",
        "one hundred and ",
        "Therefore, it is 3. ",
        "\\boxed{\\boxed{",
        "I can not ",
        "so ",
    ]
    texts = [*PIECES, *more, *("".join(rng.choices([*PIECES, *more], k=rng.randint(2, 12))) for _ in range(60))]
    for piece in texts:
        text = piece * (100_000 // len(piece))
        begun = time.perf_counter()
        for question in QUESTIONS[:6]:
            check(text, question)
        assert time.perf_counter() - begun < 20, piece


def test_it_works_outside_the_main_thread() -> None:
    found = []
    thread = threading.Thread(
        target=lambda: found.append(check("Final answer: $9^{9^{9}}$", Question(Kind.EXPRESSION, "3")).correct)
    )
    thread.start()
    thread.join(20)
    assert found and found[0] is not True


def test_nothing_is_run() -> None:
    assert (
        check("Final answer: __import__('os').system('touch /tmp/owned')", Question(Kind.EXPRESSION, "3")).correct
        is not True
    )
