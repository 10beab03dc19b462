"""The paper's numbers, which tables show beside a run's own."""

import json
from importlib.resources import files
from typing import Any


def published() -> dict[str, Any]:
    """Reads the source, the meaning of each number, and the rows (model, prompt, a number for each benchmark)."""
    data: dict[str, Any] = json.loads(
        files("mpo_lightning.evals").joinpath("published.json").read_text(encoding="utf-8")
    )
    return data


def rows_for(benchmark: str) -> list[tuple[str, str, float]]:
    """Returns the model, prompt and number of every published row that has the benchmark."""
    return [(row["model"], row["prompt"], row[benchmark]) for row in published()["rows"] if benchmark in row]
