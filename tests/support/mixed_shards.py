"""A small shard set with everything that makes ranks differ."""

import json
from pathlib import Path

from mpo_lightning.commands import data as commands


def mixed_shards(folder: Path, root: Path) -> Path:
    """Thirteen pairs with one, two and no pictures, and one that is too long: text-only pairs meet others in a step, a
    rank is alone with the bad record, and the last step is partial.
    """
    rows = []
    for number in range(13):
        picture = {0: ["photos/horse.jpg"], 1: [], 2: ["diagrams/clock0.png", "diagrams/shapes0.png"]}[number % 3]
        marks = "".join("<image>\n" for _ in picture)
        rows.append(
            {
                "image": picture,
                "question": f"{marks}Question {number}?",
                "chosen": f"right {number} " * (1 + number % 4),
                "rejected": f"wrong {number}",
            }
        )
    rows.insert(6, {"question": "why " * 3000, "chosen": "a", "rejected": "b"})
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = root / "examples" / "mmpr_sample" / "images"
    (folder / "meta.json").write_text(
        json.dumps({"set": {"root": str(images), "annotation": "pairs.jsonl", "max_dynamic_patch": 2}})
    )
    commands.shard(str(folder / "meta.json"), str(folder / "out"), workers=1)
    return folder / "out" / "train"
