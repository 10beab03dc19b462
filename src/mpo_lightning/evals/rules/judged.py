"""Shared code of the three judged benchmarks: scores a response by its judge's replies."""

from collections.abc import Mapping
from typing import Any

from mpo_lightning.answers import Verdict
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import NOT_JUDGED, Judge, Score


def replies_of(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> list[str]:
    """Returns the judge's replies in a row: the first of several fields, holding one reply or a list of runs.

    Raises:
        InputError: there is no reply; the message says how to get one.
    """
    for name in names:
        if row.get(name) not in (None, []):
            return [str(reply) for reply in row[name]] if isinstance(row[name], list) else [str(row[name])]
    raise InputError(
        f"{where}: has no judge's reply ({' or '.join(names)}); give --judge.url with a server, or --judge.replay "
        "with a file of replies"
    )


def judged_score(judge: Judge[Any], replies: list[str], runs_of: int = 1) -> Score:
    """Scores a response by the points of its replies, one after another.

    Args:
        judge: the benchmark's rules for its judge.
        replies: replies of the judge, one for each run.
        runs_of: number of points in a reply, of which the last one stands for the response.
    """
    refused = any(reply.startswith(NOT_JUDGED) for reply in replies)
    read = [None if reply.startswith(NOT_JUDGED) else judge.read(reply) for reply in replies]
    values = tuple(point for points in read for point in (judge.otherwise if points is None else points))
    said = " | ".join(reply.strip().split("\n")[0][:80] for reply in replies)
    rule = "judge/not judged" if refused else "judge" if None not in read else "judge/unreadable"
    mean = sum(values[runs_of - 1 :: runs_of]) / len(replies)
    return Score(Verdict(None, said, f"{mean:g}", rule, confidence=1.0 if rule == "judge" else 0.0), values)
