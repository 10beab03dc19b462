"""Numbers from several samples of each problem: pass@k and majority@k."""

from collections import Counter
from collections.abc import Sequence
from math import comb

from mpo_lightning.answers import Verdict


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Returns the chance that at least one of k samples, drawn without replacement, is right; unbiased.

    Args:
        correct: number of right samples.
        samples: number of samples, at least k.
        k: number of samples drawn.

    Source: Chen et al. 2021, arXiv 2107.03374, eq. 1.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {correct} right ones among {samples} samples")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def majority(verdicts: Sequence[Verdict]) -> float:
    """Returns 1 if the most frequent prediction is right, else 0; the mean over predictions that are equally frequent.

    Undecided samples have no vote; without any vote the result is 0.
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
    """Returns pass@k and majority@k in percent, for k = 1, 2, 4, ... and the fewest samples of any problem.

    Args:
        groups: verdicts of each problem's samples, in their order.
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
