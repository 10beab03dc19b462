"""The pairs that the step is measured on: the samples that TRL trains on (same ids and pixels), or synthetic ones.

Kinds: "image" and "text" are pairs that share nothing. "image-4" and "image-15" are questions with 2 + 2 answers, all
four pairs of them, and with 4 + 4 answers and fifteen pairs; questions, images and answers are those of "image".

A folder holds data.jsonl with {"prompt", "chosen", "rejected"[, "images": [paths]]}. The model folder is in the
transformers layout with a chat template. TRL trains everything behind the generation prompt, the newline after the end
token included.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, InternVLConfig, InternVLVisionConfig, Qwen2Config

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.flops import answer_flops, prompt_flops
from mpo_lightning.models.internvl.tiling import IMAGE_END, IMAGE_START, IMAGE_TOKEN, cut_tiles
from mpo_lightning.models.loading import config_of as released_config


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


QUESTIONS = {"image-4": (2, 4), "image-15": (4, 15)}
"""Answers of each side, and pairs, of a question of these kinds."""

KINDS = ("image", "text", *QUESTIONS)


def pairs_of_question(kind: str) -> int:
    return QUESTIONS[kind][1] if kind in QUESTIONS else 1


def sides_of(kind: str) -> list[tuple[int, int]]:
    """The chosen and the rejected answer of each pair of a question, by number on its side."""
    answers, pairs = QUESTIONS[kind]
    return [(chosen, rejected) for chosen in range(answers) for rejected in range(answers)][:pairs]


def write_questions(assets: Path, kind: str) -> None:
    """Writes the pairs of a question as a folder of ordinary pairs, which the peer reads too; once. All are of one
    question, so that whoever takes a few of its pairs has the same work.
    """
    target, source = assets / f"data_{kind}", assets / "data_image"
    if (target / "data.jsonl").is_file():
        return
    rows = [json.loads(line) for line in (source / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    number = _usual_question(assets, kind, len(rows))
    target.mkdir(exist_ok=True)
    images = [os.path.relpath(source / path, target) for path in rows[number]["images"]]
    with (target / "data.jsonl").open("w", encoding="utf-8") as file:
        for chosen, rejected in sides_of(kind):
            sides = {"chosen": rows[(number + chosen) % len(rows)]["chosen"]}
            sides |= {"rejected": rows[(number + rejected) % len(rows)]["rejected"]}
            file.write(json.dumps(rows[number] | sides | {"images": images}, ensure_ascii=False) + "\n")


def _usual_question(assets: Path, kind: str, count: int) -> int:
    """The number of the question whose distinct work is the median of all."""
    config = AutoConfig.from_pretrained(assets / "model", local_files_only=True)
    rows = read_pairs(assets / "model", assets / "data_image", count)

    def work(number: int) -> float:
        pairs = [
            replace(
                rows[number],
                chosen_ids=rows[(number + chosen) % count].chosen_ids,
                rejected_ids=rows[(number + rejected) % count].rejected_ids,
            )
            for chosen, rejected in sides_of(kind)
        ]
        return step_flops(config, pairs, live_reference=False)

    return sorted(range(count), key=work)[count // 2]


def pairs_of(assets: Path | None, kind: str, count: int) -> tuple[Any, list[EncodedPair]]:
    """The model's config and its pairs of one kind: the peer's, or synthetic ones for the toy model."""
    if assets is None:
        config = config_of("toy")
        tiles, vocabulary = 0 if kind == "text" else 4, config.text_config.vocab_size
        if kind not in QUESTIONS:
            return config, synthetic_pairs(count, tiles, vocabulary)
        each = pairs_of_question(kind)
        return config, synthetic_questions(kind, -(-count // each), tiles, vocabulary)[:count]
    if kind in QUESTIONS:
        write_questions(assets, kind)
    return AutoConfig.from_pretrained(assets / "model", local_files_only=True), read_pairs(
        assets / "model", assets / f"data_{kind}", count
    )


def config_of(preset: str) -> Any:
    """The config of one of InternVL2's sizes, or of "toy": vision tower 2 M, language model 6 M, vocabulary 32,768."""
    if preset != "toy":
        return released_config(preset)
    vision = InternVLVisionConfig(
        hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768, attention_bias=True
    )
    text = Qwen2Config(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=1024,
        vocab_size=32768,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return InternVLConfig(vision_config=vision, text_config=text, image_token_id=32767, tie_word_embeddings=False)


def synthetic_pairs(
    count: int, tiles: int, vocabulary: int, prompt: int = 80, chosen: int = 300, rejected: int = 350
) -> list[EncodedPair]:
    """Pairs of the shape that MMPR's have on average."""
    generator = torch.Generator().manual_seed(0)

    def tokens(number: int) -> torch.Tensor:
        return torch.randint(0, vocabulary - 1, (number,), generator=generator)

    return [
        EncodedPair(
            str(number),
            torch.cat([torch.full((256 * tiles,), vocabulary - 1), tokens(prompt)]),
            tokens(chosen),
            tokens(rejected),
            torch.randint(0, 256, (tiles, 3, 448, 448), generator=generator, dtype=torch.uint8),
        )
        for number in range(count)
    ]


def synthetic_questions(kind: str, count: int, tiles: int, vocabulary: int) -> list[EncodedPair]:
    """All pairs of some questions, question after question; their answers are those of other pairs."""
    rows = synthetic_pairs(count + QUESTIONS[kind][0], tiles, vocabulary)
    return [
        replace(
            rows[number],
            key=f"{number}-{chosen}-{rejected}",
            chosen_ids=rows[number + chosen].chosen_ids,
            rejected_ids=rows[number + rejected].rejected_ids,
        )
        for number in range(count)
        for chosen, rejected in sides_of(kind)
    ]


def token_counts(pairs: Sequence[EncodedPair]) -> list[tuple[int, int, int]]:
    """Prompt, chosen and rejected tokens of each pair."""
    return [(len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]


def step_flops(config: Any, pairs: Sequence[EncodedPair], live_reference: bool) -> float:
    """Distinct work of a step, all parameters trained: three forwards of the policy and, without a cache, one of the
    reference. Pairs of one question count its prompt, and each of its answers, once.
    """
    batch, total = collate(pairs, 448, shared_length=None), 0.0
    for tiles, (prompt, *answers) in zip(batch.tile_counts, batch.lengths, strict=True):
        total += prompt_flops(config, tiles, prompt) + sum(answer_flops(config, prompt, answer) for answer in answers)
    return (4 if live_reference else 3) * total
