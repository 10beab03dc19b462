"""The world of benchmarks/miniature: its pictures show its numbers, its solutions are right step by step, and a wrong
step is found.
"""

import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from miniature.chains import READINGS, WORKINGS, solution  # noqa: E402
from miniature.commands import Command, run_all  # noqa: E402
from miniature.files import read_lines  # noqa: E402
from miniature.pairs import by_difference, by_soundness, difference, pair_statistics, write_chosen  # noqa: E402
from miniature.steps import check_steps, works_hard  # noqa: E402
from miniature.world import COLOURS, Problem, draw_picture, draw_problem  # noqa: E402


def test_every_kind_of_solution_is_sound_and_ends_with_the_answer() -> None:
    problems = [draw_problem(1, number) for number in range(300)]
    for problem in problems:
        wanted = problem.upper + problem.lower if problem.operation == "+" else problem.upper - problem.lower
        for work in WORKINGS:
            for read in READINGS:
                text = (
                    f"{read('upper', problem.upper)}\n{read('lower', problem.lower)}\n{work(problem)}\nFinal "
                    f"answer: {wanted}"
                )
                assert check_steps(text, problem).sound, text
                assert works_hard(text) == (work in list(WORKINGS)[2:])
        assert solution(problem, random.Random(0)).endswith(f"Final answer: {wanted}")


def test_a_solution_of_another_problem_is_not_sound() -> None:
    for number in range(200):
        problem, other = draw_problem(1, number), draw_problem(1, number + 1)
        if (problem.upper, problem.lower) != (other.upper, other.lower):
            assert not check_steps(solution(other, random.Random(number)), problem).sound


def test_a_wrong_digit_in_a_step_is_found() -> None:
    rng = random.Random(0)
    for number in range(300):
        problem = draw_problem(2, number)
        lines = solution(problem, rng).split("\n")
        (equation, value) = rng.choice(re.findall(r"(= )(-?\d+)", lines[2]))
        lines[2] = lines[2].replace(equation + value, equation + str(int(value) + rng.choice((-1, 1))), 1)
        steps = check_steps("\n".join(lines), problem)
        assert steps.read and steps.answered and not steps.worked and not steps.sound, lines


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            (
                "The upper number is red blue, 27.\nThe lower number is brown black, 10.\nUnits: 6 + 0 = 6. Tens: 2 "
                "+ 1 = "
                "3.\nFinal answer: 36"
            ),
            "upper",
        ),
        (
            (
                "The upper number is red blue, 26.\nThe lower number is brown brown, 10.\nUnits: 6 + 0 = 6. Tens: 2 "
                "+ 1 = "
                "3.\nFinal answer: 36"
            ),
            "lower",
        ),
        (
            (
                "green means 2 and blue means 6, so the upper number is 26.\nlower: brown 1, black 0.\nUnits: 6 + 0 "
                "= 6. "
                "Tens: 2 + 1 = 3.\nFinal answer: 36"
            ),
            "upper",
        ),
        ("upper: red 2, blue 6.\nupper: red 2, blue 6.\nUnits: 6 + 0 = 6. Tens: 2 + 1 = 3.\nFinal answer: 36", "lower"),
        (
            (
                "upper: red 2, blue 6.\nlower: brown 1, black 0.\nUnits: 6 + 0 = 6, write 6 and carry 1. Tens: 2 + 1 = "
                "3.\nFinal answer: 36"
            ),
            "worked",
        ),
        ("upper: red 2, blue 6.\nlower: brown 1, black 0.\n1 + 1 = 2\nFinal answer: 36", "worked"),
        (
            "upper: red 2, blue 6.\nlower: brown 1, black 0.\nUnits: 6 + 0 = 6. Tens: 2 + 1 = 3.\nFinal answer: 37",
            "answered",
        ),
        (
            (
                "upper: red 2, blue 6.\nlower: brown 1, black 0.\nUnits: 6 + 0 = 6. Tens: 2 + 1 = 3.\n1 + 1 = 3\nFinal "
                "answer: 36"
            ),
            "alone",
        ),
    ],
)
def test_one_wrong_step_is_named(text: str, wrong: str) -> None:
    steps = check_steps(text, Problem(0, 26, 10, "+", "?"))
    assert not steps.sound and [name for name, right in vars(steps).items() if not right] == [wrong]


def test_wordings_may_be_mixed() -> None:
    text = (
        "upper: red 2, blue 6.\nThe lower number is brown black, 10.\nUnits: 6 + 0 = 6. Tens: 2 + 1 = 3.\nFinal "
        "answer: 36\n"
    )
    assert check_steps(text, Problem(0, 26, 10, "+", "?")).sound


def test_pictures_show_the_numbers() -> None:
    """The middle of each quarter, told by the nearest colour up to light: a second way of reading than a model's."""
    names = list(COLOURS)
    right = total = 0
    for number in range(300):
        problem = draw_problem(3, number)
        pixels = np.asarray(Image.open(io.BytesIO(draw_picture(problem, 3))).convert("RGB"), dtype=float)
        for place, digit in enumerate(f"{problem.upper}{problem.lower}"):
            top, left = 28 * (place // 2), 28 * (place % 2)
            middle = pixels[top + 12 : top + 16, left + 12 : left + 16].mean((0, 1))
            distances = [
                min(np.abs(middle - light * np.array(colour)).sum() for light in (0.8, 0.94, 1.08))
                for colour in COLOURS.values()
            ]
            right += names[int(np.argmin(distances))] == names[int(digit)]
            total += 1
    assert right / total > 0.95


def test_a_guess_is_rarely_right() -> None:
    answers = [draw_problem(4, number).answer for number in range(5000)]
    assert max(answers.count(value) for value in set(answers)) / len(answers) < 0.02


def test_problems_and_pictures_are_the_same_every_time() -> None:
    assert draw_problem(5, 7) == draw_problem(5, 7) != draw_problem(6, 7)
    assert (
        draw_picture(draw_problem(5, 7), 5)
        == draw_picture(draw_problem(5, 7), 5)
        != draw_picture(draw_problem(5, 7), 6)
    )


def test_commands_run_once_and_a_failure_names_its_log(tmp_path: Path) -> None:
    command = Command("tiny", ["model", "tiny", "--output", tmp_path / "tiny"], "tiny/model.safetensors")
    for _ in range(2):
        run_all(tmp_path, [command], "models")
    assert len((tmp_path / "commands.log").read_text().splitlines()) == 1
    with pytest.raises(SystemExit, match=r"code 2 \(.*nothing.*broken.log has more"):
        run_all(tmp_path, [command, Command("broken", ["model", "nothing"], "nothing")], "models")


def test_how_far_two_texts_differ() -> None:
    assert difference("a b c d", "a b c d") == 0 and difference("a b", "c d") == 1
    assert difference("a b c d", "a b c e") == 0.25 and difference("a a b", "a b b") == pytest.approx(1 / 3)


def test_pairs_by_difference_are_the_closest_and_the_farthest_of_each_question(tmp_path: Path) -> None:
    rejected = {
        "1.jpg": ("a b c e", "w x y z", "a b c d e", "a x y z"),
        "2.jpg": ("a b c d", "q"),
        "3.jpg": ("only one",),
    }
    rows = [
        {"image": image, "chosen": "a b c d", "rejected": text} for image, texts in rejected.items() for text in texts
    ]
    (tmp_path / "all").mkdir()
    for name, part in {"first": rows[:3], "second": rows[3:]}.items():
        (tmp_path / f"all/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    meta = {name: {"root": "../pictures", "annotation": f"{name}.jsonl"} for name in ("first", "second")}
    (tmp_path / "all/meta.json").write_text(json.dumps(meta))
    for name, wanted in {"far": ["w x y z", "a x y z", "q"], "close": ["a b c d e", "a b c e", "a b c d"]}.items():
        write_chosen([tmp_path / "all"], tmp_path / name, by_difference(2, name == "far"))
        assert [row["rejected"] for row in read_lines(tmp_path / name / "pairs.jsonl")] == wanted
        entry = json.loads((tmp_path / name / "meta.json").read_text())["pairs"]
        assert entry["length"] == 3 and (tmp_path / name / entry["root"]).resolve() == (tmp_path / "pictures").resolve()


def test_pairs_are_told_apart_by_whether_the_chosen_side_is_sound(tmp_path: Path) -> None:
    problems = [draw_problem(4000, number) for number in range(3)]
    right = [solution(problem, random.Random(0)) for problem in problems]
    lucky = "I guess.\nFinal answer: " + str(problems[2].answer)
    texts = [(right[0], "no"), (right[1], right[1]), (lucky, right[2])]
    rows = [
        {"image": f"images/{n:06d}.jpg", "kind": "correctness", "chosen": a, "rejected": b}
        for n, (a, b) in enumerate(texts)
    ]
    for name, wanted in {"sound": rows[:2], "lucky": rows[2:]}.items():
        assert by_soundness(4000, name == "sound")(rows) == wanted
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "meta.json").write_text(json.dumps({"pairs": {"root": ".", "annotation": "pairs.jsonl"}}))
    found = pair_statistics([tmp_path], 4000)["correctness"]
    assert found["pairs"] == 3 and found["chosen_sound"] == found["rejected_sound"] == pytest.approx(200 / 3)


def test_a_killed_study_leaves_no_command_running(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meta.json")  # nobody writes into it, so the command waits for ever
    script = (
        "from pathlib import Path\nfrom miniature.commands import Command, run_all\nif __name__ == '__main__':\n"
        f"    here = Path({str(tmp_path)!r})\n"
        "    run_all(here, [Command('waits', ['data', 'shard', '--meta', here / 'meta.json', '--output', here / "
        "'shards'], 'never')], 'waiting')\n"
    )
    (tmp_path / "study.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}
    study = subprocess.Popen([sys.executable, tmp_path / "study.py"], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: held_open(tmp_path / "logs/waits.log"), 120)
        study.kill()
        study.wait()
        wait_until(lambda: not held_open(tmp_path / "logs/waits.log"), 30)
    finally:
        study.kill()


def held_open(path: Path) -> bool:
    """Whether a process of this machine has the file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if path.exists() and link.samefile(path):
                return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
