"""How far verdicts can be trusted: the share that agreed with published verdicts, by the rule behind them.

`measured.json` holds the counts of recorded responses of real models; `benchmarks/calibrate.py --write` makes it. A
rule that was seen rarely is pulled, by the weight of one observation, towards all rules that find the answer in the
same way or all that compare it in the same way, whichever agree less. A way never seen counts as a coin.
"""

import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any

ANNOUNCING = ("boxed", "final answer", "announced", "bracketed")
"""The ways of finding an answer that read an announced one. They are measured together."""


Counts = dict[str, dict[str, list[int]]]
"""By side ("right", "wrong") and rule: verdicts that agreed with the published one, and all."""


@lru_cache(maxsize=1)
def _measured() -> dict[str, Any]:
    source = files("mpo_lightning.answers").joinpath("measured.json").read_text(encoding="utf-8")
    return dict(json.loads(source))


def threshold(name: str) -> float:
    """The least confidence of verdicts that make pairs: on "announced" answers, or "without an announcement"."""
    return float(_measured()["thresholds"][name])


def pooled(rule: str) -> str:
    """A rule with one name for all announcements: "announced/letter" for "boxed/letter"."""
    found, slash, compared = rule.partition("/")
    return f"{'announced' if found in ANNOUNCING else found}{slash}{compared}"


@lru_cache(maxsize=1024)
def confidence_of(rule: str, correct: bool | None) -> float:
    """The confidence of a verdict, 0 to 1; 0 if it is undecided.

    Args:
        rule: how the answer was found and compared, such as "boxed/number".
        correct: the verdict.
    """
    if correct is None:
        return 0.0
    return confidence_from(_measured()["counts"], pooled(rule), "right" if correct else "wrong")


def confidence_from(counts: Counts, rule: str, side: str) -> float:
    """The confidence that counts give to a rule.

    Args:
        counts: the counts.
        rule: a pooled rule.
        side: "right" or "wrong".
    """
    found, _, compared = rule.partition("/")
    share = min(_share(counts[side], place=0, name=found), _share(counts[side], place=2, name=compared))
    agreed, total = counts[side].get(rule, (0, 0))
    return math.floor(10_000 * (agreed + share) / (total + 1)) / 10_000


def _share(counts: dict[str, list[int]], place: int, name: str) -> float:
    """The share of agreement of all rules that find, or compare, in one way; one half for a way never seen."""
    pairs = [pair for rule, pair in counts.items() if rule.partition("/")[place] == name]
    return (sum(pair[0] for pair in pairs) + 1) / (sum(pair[1] for pair in pairs) + 2)
