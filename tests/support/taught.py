"""A tiny model that has learned some of the sample answers by heart: right now and then, as sampling needs it."""

import json
from pathlib import Path

import torch

from mpo_lightning.data.prompts import Prompt
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.generation import encode_prompt, pad_prompts
from mpo_lightning.models.internvl.tiling import normalize_tiles
from mpo_lightning.models.internvl.tiny import tiny_model

STEPS = 90


def sample_questions(root: Path) -> list[tuple[Prompt, str]]:
    """Sixteen questions of the sample set with their chosen answers: diagrams and text."""
    sample = root / "examples" / "mmpr_sample"
    found = []
    for name, count in (("diagrams", 9), ("text", 7)):
        for line in (sample / "annotations" / f"{name}.jsonl").read_text().splitlines()[:count]:
            pair = json.loads(line)
            images = ((sample / "images" / "diagrams" / pair["image"]).read_bytes(),) if "image" in pair else ()
            question = (
                pair["question"] if "<image>" in pair["question"] or not images else f"<image>\n{pair['question']}"
            )
            found.append((Prompt(question, images, 1), pair["chosen"]))
    return found


def write_taught_model(root: Path, output: Path) -> None:
    """Writes the checkpoint folder."""
    torch.manual_seed(0)
    model, processor = tiny_model(0)
    encoder = processor.encoder(1, 2048, "set_aside")
    encoded, labels = [], []
    for prompt, chosen in sample_questions(root):
        head = encode_prompt(encoder, prompt)
        answer = torch.tensor(encoder.answer_ids(chosen))
        encoded.append(head._replace(ids=torch.cat([head.ids, answer])))
        labels.append((len(head.ids), len(answer)))
    batch = pad_prompts(encoded)
    wanted = torch.full_like(batch.input_ids, -100)
    for row, (_, answer) in enumerate(labels):
        wanted[row, -answer:] = batch.input_ids[row, -answer:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pixels = normalize_tiles(batch.tiles)
    model.train()
    for _ in range(STEPS):
        loss = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=pixels, labels=wanted
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    output.mkdir(parents=True)
    save_folder(model.eval(), processor, output)
