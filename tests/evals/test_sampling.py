"""Several samples of each problem: by hand and by brute force."""

from itertools import combinations

import pytest

from mpo_lightning.answers import Verdict
from mpo_lightning.evals.sampling import majority, pass_at_k, sample_numbers


def verdict(prediction: str | None, correct: bool | None) -> Verdict:
    return Verdict(correct, "", prediction, "x", 1.0)


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one() -> None:
    for samples in range(1, 7):
        for correct in range(samples + 1):
            for k in range(1, samples + 1):
                draws = list(combinations([True] * correct + [False] * (samples - correct), k))
                assert pass_at_k(correct, samples, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(ValueError):
        pass_at_k(1, 2, 3)


def test_majority_votes_by_prediction_and_shares_ties() -> None:
    assert majority([verdict("3", True), verdict("3", True), verdict("4", False)]) == 1
    assert majority([verdict("3", True), verdict("4", False), verdict("4", False)]) == 0
    assert majority([verdict("3", True), verdict("4", False)]) == 0.5
    assert majority([verdict(None, None), verdict(None, False)]) == 0


def test_numbers_for_doubling_k() -> None:
    groups = {"a": [verdict("1", True)] + [verdict("2", False)] * 3, "b": [verdict("1", True)] * 4}
    found = sample_numbers(groups)
    assert (
        found["pass@1"] == pytest.approx(100 * (0.25 + 1) / 2)
        and found["pass@4"] == 100
        and found["majority@4"] == 50
        and "pass@8" not in found
    )


def test_the_fewest_samples_are_a_k_too() -> None:
    assert set(sample_numbers({"a": [verdict("1", True)] * 3})) == {
        "pass@1",
        "majority@1",
        "pass@2",
        "majority@2",
        "pass@3",
        "majority@3",
    }
