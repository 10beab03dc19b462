"""A figure and a short table of a run: loss terms, rewards, margin, accuracy."""

import csv
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from mpo_lightning.files.disk import disk_problem

Curve = tuple[list[int], list[float]]


class Curves(L.Callback):
    """Draws curves.png in the run folder when training ends, and prints a summary, both from the CSVLogger's file."""

    _first_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first_step = trainer.global_step

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        if logger is None:
            return
        try:
            self._draw(trainer, logger)
        except OSError as error:
            if (problem := disk_problem(error)) is None:
                raise
            rank_zero_warn(f"no curves were drawn: {problem}")

    def _draw(self, trainer: L.Trainer, logger: CSVLogger) -> None:
        logger.save()
        numbers = Path(logger.log_dir) / "metrics.csv"
        if not numbers.is_file():
            every = trainer.log_every_n_steps  # type: ignore[attr-defined]
            taken = trainer.global_step - self._first_step
            print(
                f"no curves: the {taken} steps are fewer than trainer.log_every_n_steps, {every}"
                if taken
                else "no step was left: the run is complete"
            )
            return
        curves = read_curves(numbers)
        target = Path(logger.log_dir) / "curves.png"
        draw_curves(curves, target)
        print(summary_table(curves))
        print(f"curves: {target}\nnumbers: {Path(logger.log_dir) / 'metrics.csv'}")


def read_curves(path: Path) -> dict[str, Curve]:
    """Reads the steps and values of every metric of a metrics.csv."""
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(int(row["step"]))
                    values.append(float(value))
    return curves


def summary_table(curves: dict[str, Curve], rows: int = 6) -> str:
    """Returns a table of means over equal stretches of the run, one line each."""
    columns = [
        name
        for name in ("loss", "margin", "accuracy", "rewards_chosen", "rewards_rejected")
        if f"train/{name}" in curves
    ]
    if not columns:
        return "no training step was logged"
    steps = curves[f"train/{columns[0]}"][0]
    rows = min(rows, len(steps))
    lines = ["  steps      " + "".join(f"{name:>18}" for name in columns)]
    for row in range(rows):
        first, last = row * len(steps) // rows, (row + 1) * len(steps) // rows
        means = [sum(curves[f"train/{name}"][1][first:last]) / (last - first) for name in columns]
        lines.append(f"  {steps[first]:>4} - {steps[last - 1]:<4}" + "".join(f"{mean:>18.4f}" for mean in means))
    return "\n".join(lines)


def draw_curves(curves: dict[str, Curve], target: Path) -> None:
    """Draws four panels over optimizer steps, training as lines and validation as dots."""
    panels = {
        "loss (nats)": ("loss", "loss_preference", "loss_quality", "loss_generation"),
        "rewards and delta": ("rewards_chosen", "rewards_rejected", "delta"),
        "margin": ("margin",),
        "accuracy": ("accuracy",),
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axis, (title, names) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name in names:
            if f"train/{name}" in curves:
                (line,) = axis.plot(*curves[f"train/{name}"], label=name, linewidth=1.5)
                if f"val/{name}" in curves:
                    axis.plot(*curves[f"val/{name}"], "o", color=line.get_color())
        axis.set_title(title)
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8, framealpha=0.5)
    if any(name.startswith("val/") for name in curves):
        figure.suptitle("lines: training, dots: validation", fontsize=9)
    figure.savefig(target, dpi=110)
