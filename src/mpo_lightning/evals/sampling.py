"""What several samples of each problem say: pass@k, majority@k, and how far answers keep to the form that was asked
for.
"""

from collections import Counter
from collections.abc import Sequence
from math import comb

from mpo_lightning.answers import Verdict


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """The chance that at least one of k samples, drawn without putting back, is right; unbiased.

    Args:
        correct: how many of the samples are right.
        samples: how many there are, at least k.
        k: how many are drawn.

    Source: Chen et al. 2021, arXiv 2107.03374, eq. 1.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} right ones among {samples} samples")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def majority(verdicts: Sequence[Verdict]) -> float:
    """Whether the most frequent prediction is right, from 0 to 1: of predictions equally frequent, the mean.

    Undecided samples have no vote; without any vote it is 0.
    """
    votes = Counter(
        verdict.prediction for verdict in verdicts if verdict.prediction is not None and verdict.correct is not None
    )
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [name for name, count in votes.items() if count == most]
    right = {verdict.prediction for verdict in verdicts if verdict.correct}
    return sum(winner in right for winner in winners) / len(winners)


def sample_numbers(groups: dict[str, list[Verdict]]) -> dict[str, float]:
    """pass@k and majority@k in percent, k = 1, 2, 4, ... and the fewest samples of any problem.

    Args:
        groups: the verdicts of each problem's samples, in their order.
    """
    fewest = min(map(len, groups.values()), default=0)
    numbers: dict[str, float] = {}
    for k in sorted({*(2**power for power in range(12) if 2**power <= fewest), *([fewest] if fewest else [])}):
        numbers[f"pass@{k}"] = (
            100
            * sum(pass_at_k(sum(v.correct is True for v in found), len(found), k) for found in groups.values())
            / len(groups)
        )
        numbers[f"majority@{k}"] = 100 * sum(majority(found[:k]) for found in groups.values()) / len(groups)
    return numbers
