"""Chooses which right response is paired with which wrong one.

The reference code draws 15 pairs from the product of right and wrong responses, in an order that changes between runs;
one easy wrong response may be in all of them. Here uses are spread as evenly as possible: no wrong response is in more
than half of a question's pairs, unless there is one pair. A hash of question and sample numbers breaks ties, so the
pairs depend only on the responses.

Source of the numbers: arXiv 2411.10442, section 3.2 (at most 15 pairs a question).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mpo_lightning.data.words import difference, plain_words, word_counts
from mpo_lightning.prefs.options import PairingRules


@dataclass(frozen=True)
class Candidate:
    """A response that a pair can be made of.

    Attributes:
        sample: number of the response among the question's.
        text: text of the response.
        prediction: the response's answer in comparable form; None if it gives none.
        length: length of the response in tokens.
    """

    sample: int
    text: str
    prediction: str | None
    length: int


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Removes candidates whose text equals an earlier one's, up to case, punctuation and space."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(plain_words(candidate.text) or candidate.text, candidate)
    return list(seen.values())


def choose_pairs(
    question: str, right: Sequence[Candidate], wrong: Sequence[Candidate], rules: PairingRules
) -> tuple[list[tuple[Candidate, Candidate]], int]:
    """Returns a question's pairs as (chosen, rejected), and the number of pairs that were too alike.

    Args:
        question: id of the question.
        right: distinct responses for the chosen side.
        wrong: distinct responses for the rejected side.
        rules: how responses are paired.
    """
    words = {("good", one.sample): word_counts(one.text) for one in right} | {
        ("bad", one.sample): word_counts(one.text) for one in wrong
    }
    usable = [
        (good, bad) for good in right for bad in wrong if good.prediction is None or good.prediction != bad.prediction
    ]
    alike = len(right) * len(wrong) - len(usable)
    # A single wrong response would be in every pair.
    most = 1 if len({bad.sample for _, bad in usable}) == 1 else rules.pairs_per_question
    order = {(good.sample, bad.sample): _place(question, good, bad) for good, bad in usable}
    uses: Counter[tuple[str, int]] = Counter()
    pairs: list[tuple[Candidate, Candidate]] = []
    excess = 0  # tokens by which the rejected sides are longer
    while usable and len(pairs) < most:
        good, bad = min(
            usable,
            key=lambda pair: (
                uses["bad", pair[1].sample],
                uses["good", pair[0].sample],
                abs(excess + pair[1].length - pair[0].length) if rules.balance_length else 0,
                order[pair[0].sample, pair[1].sample],
            ),
        )
        usable.remove((good, bad))
        if difference(words["good", good.sample], words["bad", bad.sample]) < rules.difference:
            alike += 1
            continue
        pairs.append((good, bad))
        excess += bad.length - good.length
        for side, sample in (("good", good.sample), ("bad", bad.sample)):
            uses[side, sample] += 1
            if uses[side, sample] == rules.reuse:
                usable = [pair for pair in usable if pair[side == "bad"].sample != sample]
    return _spread(pairs), alike


def _place(question: str, good: Candidate, bad: Candidate) -> bytes:
    """Returns a pair's sort key among its question's, the same in every run."""
    return hashlib.blake2b(f"{question} {good.sample} {bad.sample}".encode(), digest_size=8).digest()


def _spread(pairs: list[tuple[Candidate, Candidate]]) -> list[tuple[Candidate, Candidate]]:
    """Removes the last pairs of a wrong response that is in more than half of the pairs."""
    while len(pairs) > 1:
        sample, count = Counter(bad.sample for _, bad in pairs).most_common(1)[0]
        if 2 * count <= len(pairs):
            break
        last = max(place for place, (_, bad) in enumerate(pairs) if bad.sample == sample)
        pairs = pairs[:last] + pairs[last + 1 :]
    return pairs
