"""Golden data of InternVL 2.5 to 3.5: checkpoints in both layouts, preference pairs, numbers of the original code."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mpo_lightning.data.annotations.mmpr import AnnotationSet, make_record, parse_line
from mpo_lightning.data.records import PreferenceRecord

FOLDER = Path(__file__).parents[1] / "golden" / "now"
CHECKPOINTS = FOLDER / "checkpoints"
NAMES = (
    "internvl2_5_qwen2",
    "internvl2_5_internlm2",
    "internvl3_5_qwen3",
    "internvl3_5_qwen3_moe",
    "internvl3_5_gpt_oss",
)


def stored(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder by their names on disk."""
    return {
        name: tensor for path in sorted(folder.glob("model*.safetensors")) for name, tensor in load_file(path).items()
    }


def records() -> list[PreferenceRecord]:
    """The golden preference pairs with their pictures."""
    folder = FOLDER / "prompts" / "preference_data"
    entry = AnnotationSet("golden", folder / "images", annotation=folder / "pairs.jsonl", repeat_time=1.0)
    found = []
    for number, line in enumerate((folder / "pairs.jsonl").read_bytes().splitlines(), 1):
        parsed = parse_line(line, entry.root)
        images = tuple(path.read_bytes() for path in parsed.pictures)
        found.append(make_record(entry, number, parsed, "golden", images))
    return found


def numbers(*parts: str) -> Any:
    """A golden JSON file."""
    return json.loads(FOLDER.joinpath(*parts).read_text(encoding="utf-8"))
