"""Which right response is paired with which wrong one.

The reference draws 15 pairs from the product of right and wrong ones, so that one easy wrong response may stand in all
of them, and keeps them in an order that changes between runs. Here uses are spread as evenly as they go: no wrong
response stands in more than half of a question's pairs, unless there is one pair. Ties are broken by a hash of question
and sample numbers, so the pairs depend on nothing but the responses.

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
    """A response that can stand in a pair.

    Attributes:
        sample: its number among the question's responses.
        text: of the response.
        prediction: the answer it gives, in comparable form; None where it gives none.
        length: tokens.
    """

    sample: int
    text: str
    prediction: str | None
    length: int


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those that say the same as an earlier one, but for case, punctuation and space."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(plain_words(candidate.text) or candidate.text, candidate)
    return list(seen.values())


def choose_pairs(
    question: str, right: Sequence[Candidate], wrong: Sequence[Candidate], rules: PairingRules
) -> tuple[list[tuple[Candidate, Candidate]], int]:
    """Pairs of a question, chosen first, in an order of their own; and how many were too alike to be used.

    Args:
        question: its id.
        right: responses for the chosen side, distinct.
        wrong: responses for the rejected side, distinct.
        rules: see there.
    """
    words = {("good", one.sample): word_counts(one.text) for one in right} | {
        ("bad", one.sample): word_counts(one.text) for one in wrong
    }
    usable = [
        (good, bad) for good in right for bad in wrong if good.prediction is None or good.prediction != bad.prediction
    ]
    alike = len(right) * len(wrong) - len(usable)
    # A single wrong response would stand in every pair.
    most = 1 if len({bad.sample for _, bad in usable}) == 1 else rules.pairs_per_question
    order = {(good.sample, bad.sample): _place(question, good, bad) for good, bad in usable}
    uses: Counter[tuple[str, int]] = Counter()
    pairs: list[tuple[Candidate, Candidate]] = []
    excess = 0  # tokens by which the rejected sides are longer so far
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
    """Where a pair stands among its question's, the same in every run."""
    return hashlib.blake2b(f"{question} {good.sample} {bad.sample}".encode(), digest_size=8).digest()


def _spread(pairs: list[tuple[Candidate, Candidate]]) -> list[tuple[Candidate, Candidate]]:
    """Without the last pairs of a wrong response that stands in more than half of them."""
    while len(pairs) > 1:
        sample, count = Counter(bad.sample for _, bad in pairs).most_common(1)[0]
        if 2 * count <= len(pairs):
            break
        last = max(place for place, (_, bad) in enumerate(pairs) if bad.sample == sample)
        pairs = pairs[:last] + pairs[last + 1 :]
    return pairs
