"""Which responses are paired: by brute force over small cases; and faults of the reference that must not return."""

import random
from collections import Counter

from mpo_lightning.data.words import difference, plain_words, word_counts
from mpo_lightning.prefs.options import PairingRules
from mpo_lightning.prefs.pairing import Candidate, choose_pairs, distinct


def candidates(count: int, word: str, first: int = 0, length: int = 10) -> list[Candidate]:
    """Responses that have no word in common."""
    return [
        Candidate(first + n, " ".join(f"{word}{n}x{k}" for k in range(8)), f"{word}{n}", length + n)
        for n in range(count)
    ]


def test_at_most_fifteen_pairs_and_uses_are_spread() -> None:
    for good, bad in [(1, 1), (1, 5), (5, 1), (2, 3), (4, 28), (16, 16), (28, 4), (31, 2)]:
        pairs, alike = choose_pairs("q", candidates(good, "g"), candidates(bad, "b", 50), PairingRules())
        uses = Counter(one.sample for _, one in pairs), Counter(one.sample for one, _ in pairs)
        assert pairs and alike == 0 and len(pairs) <= 15 and len(set(pairs)) == len(pairs)
        assert max(uses[0].values()) <= 4 and max(uses[1].values()) <= 4
        # No wrong response in more than half of the pairs, unless there is one pair.
        assert len(pairs) == 1 or 2 * max(uses[0].values()) <= len(pairs)
        # As evenly as it goes.
        if len(uses[0]) == bad:
            assert max(uses[0].values()) - min(uses[0].values()) <= 1
    assert len(choose_pairs("q", candidates(16, "g"), candidates(16, "b", 50), PairingRules())[0]) == 15
    assert len(choose_pairs("q", candidates(5, "g"), candidates(1, "b", 50), PairingRules())[0]) == 1


def test_pairs_do_not_depend_on_the_order_of_responses_or_on_the_run() -> None:
    good, bad = candidates(6, "g"), candidates(9, "b", 50)
    expected = choose_pairs("q", good, bad, PairingRules())[0]
    shuffled = random.Random(0)
    for _ in range(5):
        shuffled.shuffle(good)
        shuffled.shuffle(bad)
        assert choose_pairs("q", good, bad, PairingRules())[0] == expected
    assert choose_pairs("another", good, bad, PairingRules())[0] != expected


def test_sides_that_say_the_same_are_no_pair() -> None:
    text = "The bars read 3 and 4, so the sum is 7 and the answer must be the largest of them all"
    right = [Candidate(0, text, "7", 20)]
    for other, usable in (
        (text.upper() + "!!", False),
        (text.replace("7", "-7"), True),
        (text + " not at all in any way", True),
    ):
        assert bool(choose_pairs("q", right, [Candidate(1, other, "8", 20)], PairingRules())[0]) is usable
    # The same answer on both sides.
    assert choose_pairs("q", right, [Candidate(1, "other words altogether", "7", 4)], PairingRules()) == ([], 1)
    assert choose_pairs("q", right, [Candidate(1, text.replace("7", "8"), "8", 4)], PairingRules(difference=0.2)) == (
        [],
        1,
    )


def test_lengths_balance_where_that_is_asked_for() -> None:
    good = [Candidate(n, f"g{n} " * 5, f"g{n}", length) for n, length in enumerate([100, 100, 100, 20, 20, 20])]
    bad = [Candidate(50 + n, f"b{n} " * 5, f"b{n}", length) for n, length in enumerate([300, 200, 90, 90, 30, 10])]

    def excess(question: str, balance_length: bool) -> int:
        rules = PairingRules(pairs_per_question=4, balance_length=balance_length)
        pairs, _ = choose_pairs(question, good, bad, rules)
        assert len(pairs) == 4
        return abs(sum(worse.length - better.length for better, worse in pairs))

    for question in ("a", "b", "c", "d"):
        assert excess(question, True) <= 20 < excess(question, False)


def test_responses_that_differ_in_case_and_punctuation_are_one() -> None:
    said = [Candidate(0, "It is 7.", "7", 3), Candidate(1, "it is **7**", "7", 3), Candidate(2, "It is -7.", "-7", 3)]
    assert [one.sample for one in distinct(said)] == [0, 2]


def test_difference_counts_words_with_repeats() -> None:
    """By hand: of 3 + 4 words 2 x 2 are shared."""
    assert difference(word_counts("a b b"), word_counts("b b c d")) == 1 - 4 / 7
    assert (
        difference(word_counts("a b"), word_counts("B, a!")) == 0
        and difference(word_counts("a"), word_counts("b")) == 1
    )
    assert plain_words("<image>\nWhat is 2 - 3?") != plain_words("What is 2 + 3?")
