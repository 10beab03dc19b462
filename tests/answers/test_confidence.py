"""Confidence is measured: hand arithmetic of the formula, and the stored counts are what the command counts today."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpo_lightning.answers import Kind, Question, check
from mpo_lightning.answers.confidence import confidence_from, confidence_of, threshold


def test_a_rule_seen_rarely_is_pulled_towards_those_that_find_answers_alike() -> None:
    """By hand: all announced ones agree in (118 + 1) / (120 + 2), all of "a" in (20 + 1) / (22 + 2), new ones half."""
    counts = {"right": {"announced/a": [19, 20], "announced/b": [99, 100], "prose/a": [1, 2]}, "wrong": {}}
    assert confidence_from(counts, "announced/a", "right") == int(10_000 * (19 + 21 / 24) / 21) / 10_000
    assert confidence_from(counts, "announced/b", "right") == int(10_000 * (99 + 119 / 122) / 101) / 10_000
    assert confidence_from(counts, "announced/new", "right") == 0.5
    assert confidence_from(counts, "prose/new", "right") == 0.5
    assert confidence_of("boxed/letter", True) == confidence_of("final answer/letter", True)
    assert confidence_of("boxed/letter", None) == 0


def test_two_readings_that_agree_raise_the_confidence_and_what_is_reordered_lowers_it() -> None:
    options = Question(Kind.CHOICE, "B", ("left", "right"))
    letter, both = (check(f"Final answer: {said}", options) for said in ("B", "B. right"))
    assert both.rule.endswith("letter and text") and both.confidence >= letter.confidence >= threshold("announced")
    pair = Question(Kind.EXPRESSION, "2, 5")
    same, other = (check(f"Final answer: {said}", pair) for said in ("2, 5", "5, 2"))
    assert same.correct is other.correct is True and other.confidence < threshold("announced") < same.confidence


@pytest.mark.parametrize("said", ["[3, 4]", "3 and 4"])
def test_lists_and_wrong_words_can_make_pairs(said: str) -> None:
    assert check(f"Final answer: {said}", Question(Kind.LIST, "[3, 4]")).confidence >= threshold("announced")
    assert check("Final answer: a tiger", Question(Kind.TEXT, "lion")).confidence >= threshold("announced")


def test_the_stored_counts_are_those_of_the_command(root: Path, tmp_path: Path) -> None:
    outputs = root.parent / "shared" / "evals"
    if not outputs.is_dir():
        pytest.skip("the published outputs (../shared/evals) are not on this machine")
    named = [word for name in ("mathvista", "m3cot", "mathvision") for word in (f"--{name}", str(outputs / name))]
    command = [
        sys.executable,
        str(root / "benchmarks" / "calibrate.py"),
        *named,
        "--write",
        str(tmp_path / "found.json"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    stored = root / "src" / "mpo_lightning" / "answers" / "measured.json"
    assert json.loads((tmp_path / "found.json").read_text()) == json.loads(stored.read_text())
