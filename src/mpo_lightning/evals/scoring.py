"""`mpo eval score`: scores a file of responses and makes the table.

OUT.jsonl            one line a response: id, extraction, prediction, correct, rule, confidence (judged: points)
OUT.table.json       the table, with coverage, format rate and lengths
OUT.judge.jsonl      the judge's replies, written as they come
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpo_lightning import __version__
from mpo_lightning.answers import Verdict
from mpo_lightning.answers.response.extract import announced, clean
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmark import Benchmark, Mode, Row, Score, Table
from mpo_lightning.evals.judges import KeptReplies, ask_all
from mpo_lightning.evals.sampling import sample_numbers
from mpo_lightning.files.whole import write_text

REPEATED = ("pid", "id", "question_id", "model", "run", "sample", "category", "group", "mode")
"""Fields of a response that its line of the output repeats."""


@dataclass(frozen=True)
class Scored:
    """Responses with their scores.

    Attributes:
        rows: responses with their problems.
        scores: score of each response.
        table: table of all responses.
        numbers: coverage, format rate, lengths, pass@k, majority@k.
    """

    rows: tuple[Row, ...]
    scores: tuple[Score, ...]
    table: Table
    numbers: dict[str, float]


def join(benchmark: Benchmark[Any], responses: Sequence[Row], problems: Sequence[Row] | None, where: Path) -> list[Row]:
    """Adds the fields of its problem to each response; a response's own fields win.

    Raises:
        InputError: a problem is missing, or a field that scoring needs.
    """
    by_id = {str(problem.get(benchmark.id_field)): problem for problem in problems or ()}
    rows = []
    for number, response in enumerate(map(benchmark.named, responses), start=1):
        name = response.get(benchmark.id_field, response.get("key"))
        if problems is not None and str(name) not in by_id:
            raise InputError(f"{where}: row {number} has {benchmark.id_field} {name!r}, which --problems does not have")
        row = by_id.get(str(name), {}) | {benchmark.id_field: name if name is not None else number} | response
        for field in benchmark.needed:
            if row.get(field) is None:
                raise InputError(
                    f"{where}: row {number} ({benchmark.id_field} {name}) has no '{field}'; give --problems with the "
                    "benchmark's own file"
                )
        if (problem := benchmark.problem(row)) is not None:
            raise InputError(
                f"{where}: row {number} ({benchmark.id_field} {name}): {problem}; is it a row of {benchmark.title}?"
            )
        rows.append(row)
    return rows


def response_of(benchmark: Benchmark[Any], row: Row, where: str = "") -> str:
    """Returns the response's text; "" if the model gave none.

    Raises:
        InputError: the row has no field for the response.
    """
    for name in benchmark.response_fields:
        if name in row:
            return "" if row[name] is None else str(row[name])
    if benchmark.judge is not None:
        return ""
    raise InputError(f"{where}row {row.get(benchmark.id_field)} has no field '{benchmark.response_fields[0]}'")


def score_rows(benchmark: Benchmark[Any], rows: Sequence[Row], mode: Mode) -> Scored:
    """Scores responses and sums them up.

    Args:
        benchmark: the benchmark.
        rows: responses with their problems, and with the judge's replies if the benchmark needs them.
        mode: "official" for the benchmark's own rules, "robust" for ours.
    """
    scores = [benchmark.score(row, response_of(benchmark, row), mode) for row in rows]
    if len({len(score.values) for score in scores}) > 1:
        raise InputError("rows have replies of different numbers of runs; score all again with the same --judge.runs")
    kept = [place for place, score in enumerate(scores) if score.verdict.rule != "judge/not judged"]
    if rows and not kept:
        raise InputError(f"the judge graded none of the {len(rows)} responses: {scores[0].verdict.extraction}")
    table = benchmark.table([rows[place] for place in kept], [scores[place].values for place in kept])
    return Scored(tuple(rows), tuple(scores), table, summary(benchmark, rows, [score.verdict for score in scores]))


def summary(benchmark: Benchmark[Any], rows: Sequence[Row], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Returns coverage and format rate in percent, mean length of responses, and numbers of several samples."""
    numbers: dict[str, float] = {"responses": float(len(rows))}
    if benchmark.judge is None and rows:
        numbers["coverage"] = 100 * sum(verdict.correct is not None for verdict in verdicts) / len(rows)
        said = [announced(clean(response_of(benchmark, row))) for row in rows]
        numbers["format rate"] = 100 * sum(found is not None for found in said) / len(rows)
    if benchmark.judge is not None:
        for name in ("not judged", "unreadable"):
            if count := sum(verdict.rule == f"judge/{name}" for verdict in verdicts):
                numbers[name] = float(count)
    lengths = [len(response_of(benchmark, row)) for row in rows]
    numbers["characters"] = sum(lengths) / len(lengths) if lengths else 0.0
    tokens = [row["response_tokens"] for row in rows if isinstance(row.get("response_tokens"), int)]
    if tokens:
        numbers["tokens"] = sum(tokens) / len(tokens)
    if benchmark.judge is None and any(row.get("sample") for row in rows):
        groups: dict[str, list[Verdict]] = {}
        for row, verdict in zip(rows, verdicts, strict=True):
            groups.setdefault(str(row[benchmark.id_field]), []).append(verdict)
        numbers |= sample_numbers(groups)
    return numbers


def judged(
    benchmark: Benchmark[Any],
    rows: Sequence[Row],
    replies: KeptReplies,
    runs: int,
    at_once: int,
    advance: Callable[[int], None],
) -> list[Row]:
    """Asks the judge and adds its replies to the rows."""
    assert benchmark.judge is not None
    found = ask_all(
        benchmark.judge,
        replies,
        rows=rows,
        responses=[response_of(benchmark, row) for row in rows],
        runs=runs,
        at_once=at_once,
        advance=advance,
    )
    return [row | {"judge_raw": given, "review": given[0]} for row, given in zip(rows, found, strict=True)]


def extracted(
    benchmark: Benchmark[Any], rows: Sequence[Row], replies: KeptReplies, at_once: int, advance: Callable[[int], None]
) -> list[Row]:
    """Adds a language model's extractions of short answers to the rows where rules found none."""
    assert benchmark.extractor is not None
    asked = [
        row
        for row in rows
        if benchmark.score(row, response_of(benchmark, row), "official").verdict.rule.split("/")[0]
        in ("first trigger", "whole response")
    ]
    found = ask_all(
        benchmark.extractor,
        replies,
        rows=asked,
        responses=[response_of(benchmark, row) for row in asked],
        runs=1,
        at_once=at_once,
        advance=advance,
    )
    extractions = {id(row): given[0].strip() for row, given in zip(asked, found, strict=True)}
    return [row | {"extraction": extractions[id(row)]} if id(row) in extractions else row for row in rows]


def write(benchmark: Benchmark[Any], scored: Scored, output: Path, mode: Mode, settings: dict[str, Any]) -> Path:
    """Writes the scores and the table; each file appears when it is complete.

    Returns:
        The path of the table.
    """
    lines = []
    for row, score in zip(scored.rows, scored.scores, strict=True):
        verdict = score.verdict
        line = {name: row[name] for name in dict.fromkeys((benchmark.id_field, *REPEATED)) if name in row}
        line |= {
            "extraction": verdict.extraction,
            "prediction": verdict.prediction,
            "correct": verdict.correct,
            "rule": verdict.rule,
        }
        line |= {"points": list(score.values)} if benchmark.judge else {"confidence": verdict.confidence}
        lines.append(json.dumps(line, ensure_ascii=False))
    write_text(output, "\n".join(lines) + "\n")
    table = output.with_suffix(".table.json")
    write_text(
        table,
        json.dumps(
            {
                "benchmark": benchmark.name,
                "mode": mode,
                "version": __version__,
                **settings,
                "headline": scored.table.headline,
                "score": scored.table.score,
                "numbers": scored.numbers,
                "rows": [vars(row) for row in scored.table.rows],
            },
            ensure_ascii=False,
            indent=1,
        )
        + "\n",
    )
    return table
