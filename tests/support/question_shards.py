"""Annotations whose pairs share questions, pictures and answers."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def annotations(folder: Path, rows: list[dict[str, Any]], pictures: int = 4) -> Path:
    """A meta.json of one data set with these lines, and noisy pictures 0.png, 1.png, ..."""
    for number in range(pictures):
        noise = np.random.default_rng(number).integers(0, 256, (120, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "meta.json").write_text(json.dumps({"set": {"root": ".", "annotation": "pairs.jsonl"}}))
    return folder / "meta.json"


def shared_rows(questions: int = 4, answers: int = 4, pairs: int = 15) -> list[dict[str, Any]]:
    """Pairs of a few questions in a mixed order, each answer in several of them."""
    choose = random.Random(0)
    rows = []
    for question in range(questions):
        sides = [(one, other) for one in range(answers) for other in range(answers, 2 * answers)][:pairs]
        for one, other in sides:
            texts = [f"Answer {number} to {question}." for number in (one, other)]
            row = {"image": f"{question}.png", "question": f"What is {question}?", "chosen": texts[0]}
            rows.append(row | {"rejected": texts[1], "id": f"{question}-{one}-{other}"})
    choose.shuffle(rows)
    return rows
