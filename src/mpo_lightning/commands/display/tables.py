"""Prints the tables of `mpo eval`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mpo_lightning.evals.benchmark import Benchmark
from mpo_lightning.evals.compare import Comparison
from mpo_lightning.evals.published import rows_for
from mpo_lightning.evals.scoring import Scored

UNJUDGED = {
    "not judged": " responses, which the judge refused; left out of the scores, their lines say why",
    "unreadable": " responses, whose grade could not be read; counted as the benchmark's rule says",
}


def print_scored(benchmark: Benchmark, scored: Scored, mode: str) -> None:
    """Prints a benchmark's table, its summary, and the paper's numbers."""
    table = Table(
        title=f"{benchmark.title} ({mode} rules)" if benchmark.judge is None else f"{benchmark.title} (judged)",
        title_justify="left",
    )
    for name in ("group", "name", "score", "right", "of"):
        table.add_column(name, justify="left" if name in ("group", "name") else "right", overflow="fold")
    for row in scored.table.rows:
        right = "" if row.correct is None else f"{row.correct:g}"
        table.add_row(
            row.group,
            row.name,
            f"{row.score:.0f}" if row.name in benchmark.counts else f"{row.score:.{benchmark.decimals}f}",
            right,
            f"{row.total:,}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for name, number in scored.numbers.items():
        if name in ("responses", *UNJUDGED):
            console.print(f"{name}: {number:,.0f}{UNJUDGED.get(name, '')}", highlight=False)
            continue
        unit = {"characters": " a response", "tokens": " a response"}.get(name, " %")
        console.print(f"{name}: {number:,.1f}{unit}", highlight=False)
    if undecided := sum(score.verdict.correct is None for score in scored.scores) if benchmark.judge is None else 0:
        console.print(f"undecided: {undecided:,} responses, counted as wrong; their lines say why", highlight=False)
    if lines := rows_for(benchmark.name):
        beside = Table(
            title=f"{scored.table.headline}, beside what the paper published (arXiv 2411.10442)", title_justify="left"
        )
        for name in ("model", "prompt", "score"):
            beside.add_column(name, justify="right" if name == "score" else "left")
        beside.add_row("this run", "", f"{scored.table.score:.1f}", style="bold")
        for model, prompt, number in lines:
            beside.add_row(model, prompt, f"{number:.1f}")
        console.print(beside)


def print_compared(lines: Sequence[Comparison]) -> None:
    """Prints every run beside the first one."""
    table = Table(title=f"runs beside the first one ({lines[0].number})", title_justify="left")
    for name in ("run", "problems", "score", "95 % interval", "undecided", "gained", "lost", "difference", "p"):
        table.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    for line in lines:
        beside = (
            ["", "", "", ""]
            if line.p is None or line.difference is None
            else [str(line.gained), str(line.lost), f"{line.difference:+.2f}", f"{line.p:.3g}"]
        )
        table.add_row(
            line.name,
            f"{line.problems:,}",
            f"{line.score:.2f}",
            f"{line.low:.1f} to {line.high:.1f}",
            f"{line.undecided:.1f} %",
            *beside,
        )
    Console(width=None if Console().is_terminal else 120).print(table)
