"""The report of a study as report.md, report.png and report.html: a table for each cell, one over all cells, a figure,
and examples before and after.
"""

import base64
import html
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from miniature.files import write_whole
from miniature.picture import draw
from miniature.study import METHODS

Row = dict[str, Any]
COMPARED = (
    "method",
    "greedy, % (95 %)",
    "over base",
    "p",
    "over SFT",
    "p (SFT)",
    "format",
    "tokens",
    "misread",
    "sound",
    "hard",
)
MEASURED = ("sampled", "pass@k", "direct", "chosen", "rejected")
"""Columns of every table, and those of a cell that was measured in full."""
LEGEND = (
    "greedy: test problems that are right with reasoning, greedy, and a 95 % interval; over base, over SFT: the "
    "difference on the same problems, and the p-value of "
    "McNemar's exact test; format: responses that announce an answer, %; tokens: mean length; misread: responses "
    "that read the picture wrongly, %; sound: right ones whose "
    "every step is right, %; hard: responses that work in a hard way, %; sampled: right at temperature 1; pass@k: at "
    "least one of k; direct: right without reasoning; chosen, rejected: how far the log-probs of the base's own "
    "right and wrong responses to test problems "
    "moved, in nats. Intervals are over problems, for these bases and pair sets: others would differ by more."
)


def write_report(folder: Path, results: Row) -> None:
    """Writes the three files."""
    parts = [machine(results), sweep_table(results["sweeps"][0])]
    parts += [
        f"Base {cell['base']}, pair set {cell['pair_set']}: {told_pairs(cell)}\n\n{cell_table(cell)}"
        for cell in results["cells"]
    ]
    if len(results["cells"]) > 1:
        parts += [f"All {len(results['cells'])} cells, greedy:\n\n{summary_table(results['summary'])}"]
        parts += [
            f"All {len(results['cells'])} cells, drawn at temperature 1:\n\n{summary_table(results['summary_sampled'])}"
        ]
    parts.append(LEGEND)
    if results["conditions"]:
        parts.append(
            f"Other conditions, greedy, % (MPO over base and over SFT in points):\n\n{conditions_table(results)}"
        )
    if results["summary_even"]:
        parts.append(f"Condition even, all its pair sets, greedy:\n\n{summary_table(results['summary_even'])}")
    parts += [
        f"Condition {cell['condition']}: {cell['said']}. {told_pairs(cell)}\n\n{cell_table(cell)}"
        for cell in results["conditions"]
    ]
    parts += [sweep_table(found) for found in results["sweeps"][1:]]
    shown = [told_example(row) for cell in results["cells"][:1] for row in cell["examples"]]
    (folder / "report.md").write_text("\n\n".join([*parts, *shown]) + "\n", encoding="utf-8")
    picture = draw(results)
    (folder / "report.png").write_bytes(picture)
    write_whole(folder / "report.html", page(results, parts, picture))


def machine(results: Row) -> str:
    """Where and how long, by the stages that ended or failed; what a kill cut short is not in it."""
    seconds = sum(row["seconds"] for row in results["stages"])
    return (
        f"`{results['command']}`: {seconds / 60:.0f} minutes of commands on {os.cpu_count()} CPU cores "
        f"({processor()}), torch {torch.__version__}, "
        f"Python {platform.python_version()}."
    )


def processor() -> str:
    """The processor's name, where the system tells it, or else its kind."""
    path = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", path.read_text(encoding="utf-8")) if path.is_file() else []
    return str(names[0]) if names else platform.machine()


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    assert all(len(row) == len(head) for row in rows)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sweep_table(found: Row) -> str:
    """Accuracy on the validation problems by method, learning rate and beta; the chosen ones in bold."""
    rows = found["settings"]
    tried = sorted({(row["rate"], row["beta"]) for row in rows})
    head = ["validation, %", *(f"lr {rate:g}, beta {beta:g}" for rate, beta in tried)]
    told = {
        (row["method"], row["rate"], row["beta"]): f"**{row['validation']:.1f}**"
        if row["chosen"]
        else f"{row['validation']:.1f}"
        for row in rows
    }
    lines = [[method, *(told.get((method, *pair), "") for pair in tried)] for method in METHODS]
    said = (
        f"Settings of {found['cell']}, chosen on the validation problems, of which the base has "
        f"{found['base']:.1f} % right (SFT has no beta):"
    )
    return f"{said}\n\n{table(head, lines)}"


def told_pairs(cell: Row) -> str:
    """How many pairs, of which kinds, how different, how sound."""
    kinds = {"correctness": "of right and wrong", "dropout_ntp": "without the picture"}
    found = [
        f"{row['pairs']:,} pairs {kinds[kind]} (sides differ in {row['difference']:.0f} % of their words; "
        f"{row['chosen_sound']:.0f} % of the chosen and "
        f"{row['rejected_sound']:.0f} % of the rejected are right in every step"
        + (f"; {row['seen_after_cut']} name a colour after the cut)" if "seen_after_cut" in row else ")")
        for kind, row in cell["pair_statistics"].items()
    ]
    return ", ".join(found) + "."


def cell_table(cell: Row) -> str:
    """Every method of a cell."""
    full = "sampled" in cell["rows"][0]
    return table([*COMPARED, *(MEASURED if full else ())], [cell_line(row, full) for row in cell["rows"]])


def cell_line(row: Row, full: bool) -> list[str]:
    """One method."""
    beside = [f"{row['over_base']:+.1f}", f"{row['p_base']:.2g}"] if row["p_base"] is not None else ["", ""]
    beside += [f"{row['over_sft']:+.1f}", f"{row['p_sft']:.2g}"] if "over_sft" in row else ["", ""]
    found = [
        row["name"],
        f"{row['greedy']:.1f} ({row['low']:.1f} to {row['high']:.1f})",
        *beside,
        f"{row['format']:.1f}",
        f"{row['tokens']:.0f}",
        f"{row['misread']:.1f}",
        f"{row['sound']:.1f}",
        f"{row['hard']:.0f}",
    ]
    if full:
        moved = [f"{row['shift_chosen']:+.2f}", f"{row['shift_rejected']:+.2f}"] if "shift_chosen" in row else ["", ""]
        found += [f"{row['sampled']:.1f}", f"{row['pass']:.1f} (k = {row['k']})", f"{row['direct']:.1f}", *moved]
    return found


def summary_table(rows: list[Row]) -> str:
    """Every method over all cells; see `summary.summary`."""
    tested = any("above" in row.get("over_base", {}) for row in rows)
    head = ["method", "mean, %"]
    for other in ("base", "SFT"):
        head += [f"over {other} (95 %)", f"in cells, {other}", *([f"clear, {other}"] if tested else [])]
    lines = []
    for row in rows:
        line = [row["name"], f"{row['score']:.1f}"]
        for key in ("over_base", "over_sft"):
            found = row.get(key)
            line += ["", "", *([""] if tested else [])] if found is None else [
                f"{found['mean']:+.1f} ({found['low']:+.1f} to {found['high']:+.1f})", (f"{found['least']:+.1f} to "
                                                                                       f"{found['most']:+.1f}"),
                *([f"{found['above']} up, {found['below']} down"] if tested else []),
            ]  # fmt: skip
        lines.append(line)
    return table(head, lines)


def conditions_table(results: Row) -> str:
    """Greedy accuracy of every method under every condition, the study's own way first."""
    first = results["cells"][0]
    steps = len(first["curves"]["MPO"]["chosen"])
    own = {"condition": "as above", "rows": first["rows"], "pair_statistics": first["pair_statistics"], "steps": steps}
    lines = []
    for cell in [own, *results["conditions"]]:
        mpo, control = cell["rows"][-1], cell.get("beside_control")
        pairs = sum(row["pairs"] for row in cell["pair_statistics"].values())
        beside = [
            f"{mpo['over_base']:+.1f} (p = {mpo['p_base']:.2g})",
            f"{mpo['over_sft']:+.1f} (p = {mpo['p_sft']:.2g})",
        ]
        beside += [f"{control['difference']:+.1f} (p = {control['p']:.2g}), {cell['control']}" if control else ""]
        lines.append(
            [
                cell["condition"],
                f"{pairs:,}",
                str(cell["steps"]),
                *(f"{row['greedy']:.1f}" for row in cell["rows"]),
                *beside,
            ]
        )
    names = [row["name"] for row in own["rows"]]
    return table(
        ["condition", "pairs", "steps", *names, "MPO over base", "MPO over SFT", "MPO over its control's MPO"], lines
    )


def page(results: Row, parts: list[str], picture: bytes) -> str:
    """The report as a page that needs no other file."""
    image = base64.b64encode(picture).decode()
    body = "\n".join(html_of(part) for part in parts)
    shown = "\n".join(example(row) for cell in results["cells"][:1] for row in cell["examples"])
    style = (
        "body{font:15px/1.5 sans-serif;margin:2em "
        "auto;max-width:1200px}table{border-collapse:collapse;font-size:13px}td,th{border:1px solid "
        "#ccc;padding:.3em .6em;"
        "text-align:right}td:first-child,th:first-child{text-align:left}pre{white-space:pre-wrap;background:#f6f6f6;padding:.6em;margin:0}.pair{display:grid;"
        "grid-template-columns:1fr 1fr;gap:1em;margin-bottom:1.5em}"
    )
    return (
        f"<!doctype html><meta charset='utf-8'><title>MPO in miniature</title><style>{style}</style><h1>MPO in "
        "miniature</h1>"
        f"<img style='max-width:100%' src='data:image/png;base64,{image}' alt='accuracy by method; margins and "
        f"log-probs during training'>{body}"
        f"<h2>Before and after</h2>{shown}\n"
    )


def html_of(part: str) -> str:
    """A part of the report: paragraphs and tables."""
    found = []
    for block in part.split("\n\n"):
        if block.startswith("|"):
            lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            rows = [lines[0], *lines[2:]]
            found.append(
                "<table>"
                + "".join(
                    "<tr>" + "".join(cell_of(cell, "td" if n else "th") for cell in row) + "</tr>"
                    for n, row in enumerate(rows)
                )
                + "</table>"
            )
        else:
            marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(block))
            found.append(f"<p>{marked}</p>")
    return "\n".join(found)


def cell_of(text: str, tag: str) -> str:
    """A table's cell, bold where marked."""
    bold = text.startswith("**")
    return f"<{tag}>{'<b>' if bold else ''}{html.escape(text.strip('*'))}{'</b>' if bold else ''}</{tag}>"


def title_of(row: Row) -> str:
    """What an example shows."""
    return (
        f"{'turned right' if row['right_after'] else 'turned wrong'}: {row['question']} Right answer: {row['answer']}"
    )


def told_example(row: Row) -> str:
    """A problem with the responses before and after, as Markdown."""
    return f"{title_of(row)}\n\n```\nbase\n{row['before']}\n\n{row['method']}\n{row['after']}\n```"


def example(row: Row) -> str:
    """A problem with the responses before and after, as HTML."""
    title = title_of(row)
    return (
        f"<h3>{html.escape(title)}</h3><div class='pair'><div>base<pre>{html.escape(row['before'])}</pre></div>"
        f"<div>{html.escape(row['method'])}<pre>{html.escape(row['after'])}</pre></div></div>"
    )
