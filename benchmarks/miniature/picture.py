"""The figure of a study: accuracy by method and cell, margins and log-probs during training, accuracy by condition."""

import io
from statistics import mean
from typing import Any

Row = dict[str, Any]
COLOURS = {"base": "black", "SFT": "C2", "DPO": "C3", "DPO+SFT": "C1", "BCO+SFT": "C4", "MPO": "C0"}
MARKS = ("o", "s", "^", "D", "v")
"""Of the bases."""


def draw(results: Row) -> bytes:
    """Draws the figure and returns it as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.5 if results["conditions"] else 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2 if results["conditions"] else 1, 3)
    accuracy, margins, chosen = (figure.add_subplot(grid[0, place]) for place in range(3))
    draw_accuracy(accuracy, results["cells"])
    draw_training(margins, chosen, results["cells"][0])
    if results["conditions"]:
        draw_conditions(figure.add_subplot(grid[1, :]), results)
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    return file.getvalue()


def draw_accuracy(axes: Any, cells: list[Row]) -> None:
    """A point and its interval for every method in every cell, another mark for each base."""
    names = [row["name"] for row in cells[0]["rows"]]
    for number, cell in enumerate(cells):
        for place, row in enumerate(cell["rows"]):
            across = place + 0.7 * ((number + 0.5) / len(cells) - 0.5)
            label = f"base {cell['base']}" if row["name"] == "base" and cell["pair_set"] == 0 else None
            _point(axes, across, row, MARKS[cell["base"] % len(MARKS)], label)
    axes.axhline(
        mean(cell["rows"][0]["greedy"] for cell in cells),
        color="black",
        linestyle=":",
        linewidth=0.8,
        label="mean of the bases",
    )
    axes.set_xticks(range(len(names)), names, rotation=30)
    axes.set_ylabel("test problems right, greedy, % (95 %)")
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def draw_training(margins: Any, chosen: Any, cell: Row) -> None:
    """Margins of rewards, which SFT has none of, and log-probs of chosen responses beside SFT's on the same batch."""
    sft = cell["curves"]["SFT"]["chosen"]
    for name, curves in cell["curves"].items():
        if curves["margin"]:
            margins.plot(smoothed(curves["margin"]), color=COLOURS[name], label=name)
        beside = [one - other for one, other in zip(curves["chosen"], sft, strict=False)]
        chosen.plot(smoothed(beside), color=COLOURS[name], label=name)
    margins.set_ylabel("reward margin (SFT has none)")
    chosen.set_ylabel("log-prob of chosen answers, over SFT's\non the same batch, nats")
    for axes in (margins, chosen):
        axes.set_xlabel(f"step (base {cell['base']}, pair set {cell['pair_set']}; means over 7)")
        axes.legend(fontsize=8)


def draw_conditions(axes: Any, results: Row) -> None:
    """A point and its interval for every method under every condition, the study's own way first."""
    cells = [{"condition": "as above", "rows": results["cells"][0]["rows"]}, *results["conditions"]]
    for place, cell in enumerate(cells):
        for number, row in enumerate(cell["rows"]):
            _point(axes, place + 0.11 * (number - 2.5), row, "o", row["name"] if place == 0 else None)
    axes.set_xticks(range(len(cells)), [cell["condition"] for cell in cells])
    axes.set_ylabel("test problems right, greedy, % (95 %)")
    axes.set_xlabel("condition")
    axes.legend(fontsize=8, ncols=6)


def _point(axes: Any, across: float, row: Row, mark: str, label: str | None) -> None:
    error = [[row["greedy"] - row["low"]], [row["high"] - row["greedy"]]]
    axes.errorbar(
        across, row["greedy"], yerr=error, fmt=mark, color=COLOURS[row["name"]], capsize=3, markersize=5, label=label
    )


def smoothed(values: list[float], width: int = 7) -> list[float]:
    """Means over up to `width` steps that end at each."""
    return [mean(values[max(0, place - width + 1) : place + 1]) for place in range(len(values))]
