"""The peer's samples as our pairs: the same token ids and pixels that TRL trains on.

A folder holds data.jsonl with {"prompt", "chosen", "rejected"[, "images": [paths]]}; the model folder is in the transformers layout with a
chat template. TRL trains everything behind the generation prompt, the newline after the end token included.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer

from mpo_lightning.data.encoding import IMAGE_END, IMAGE_START, IMAGE_TOKEN, EncodedPair
from mpo_lightning.data.tiling import cut_tiles
from mpo_lightning.models.flops import pair_flops


def read_pairs(model: Path, data: Path, count: int) -> list[EncodedPair]:
    """The first `count` pairs of a folder, in file order, from the start again when it ends."""
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    template = (model / "chat_template.jinja").read_text(encoding="utf-8")
    settings = json.loads((model / "processor_config.json").read_text(encoding="utf-8"))
    tiles_most, tokens_per_tile = settings["image_processor"]["max_patches"], settings["image_seq_length"]
    rows = [json.loads(line) for line in (data / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = []
    for number in range(count):
        row = rows[number % len(rows)]
        tiles = [cut_tiles(Image.open(data / path), tiles_most) for path in row.get("images", [])]
        content = [*({"type": "image"} for _ in tiles), {"type": "text", "text": row["prompt"]}]
        texts = [
            tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=len(messages) == 1
            )
            for messages in (
                [{"role": "user", "content": content}],
                *(
                    [{"role": "user", "content": content}, {"role": "assistant", "content": row[side]}]
                    for side in ("chosen", "rejected")
                ),
            )
        ]
        marks = iter(f"{IMAGE_START}{IMAGE_TOKEN * (tokens_per_tile * len(part))}{IMAGE_END}" for part in tiles * 3)
        texts = [
            "".join(piece if piece != IMAGE_TOKEN else next(marks) for piece in re.split(f"({IMAGE_TOKEN})", text))
            for text in texts
        ]
        prompt, chosen, rejected = (tokenizer(text, add_special_tokens=False).input_ids for text in texts)
        assert chosen[: len(prompt)] == prompt == rejected[: len(prompt)]
        ids = [torch.tensor(part) for part in (prompt, chosen[len(prompt) :], rejected[len(prompt) :])]
        empty = torch.empty(0, 3, 448, 448, dtype=torch.uint8)
        pairs.append(EncodedPair(str(number), *ids, torch.cat(tiles) if tiles else empty))
    return pairs


def token_counts(pairs: Sequence[EncodedPair]) -> list[tuple[int, int, int]]:
    """Prompt, chosen and rejected tokens of each pair."""
    return [(len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]


def step_flops(config: Any, pairs: Sequence[EncodedPair], live_reference: bool) -> float:
    """Distinct work of a step, all parameters trained: three forwards of the policy and, without a cache, one of the reference."""
    forwards = 4 if live_reference else 3
    return sum(
        forwards * pair_flops(config, len(pair.tiles), *counts) for pair, counts in zip(pairs, token_counts(pairs), strict=True)
    )
