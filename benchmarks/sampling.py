"""Measures how fast several responses to a prompt are sampled, beside plain `generate()` with num_return_sequences.

    python benchmarks/sampling.py [--samples 8] [--tokens 64] [--prompts 4] [--engine_prompts N] [--rounds 3]
        [--json FILE]

Two models with random weights, float32, on the CPU: "tiny" (`mpo model tiny`: tiles of 112 pixels, 16 tokens each) and
"small" (tiles of 448 pixels, 256 tokens each, as a real InternVL2 has; 33 M parameters). Each prompt has an image of 4
tiles and a thumbnail. Both sides sample at temperature 1.0 among the 50 likeliest tokens, exactly --tokens of them.
Columns:

    plain        `generate()`, a prompt at a time, since it does not batch prompts with images; prepared tensors
    ours         the function that the embedded engine calls for a batch, with --prompts at once; prepared tensors
    one by one   the same with one prompt at once: the share of the gain from encoding a prompt once
    engine       `EmbeddedEngine.answer`, as `mpo prefs sample` runs it: loading weights, reading images, Lightning's
                 predict loop, writing lines and sorting them. It runs once on --engine_prompts prompts (128 and 16), so
                 that its start weighs as little as in a run of minutes. It may end a response early, so its rate is
                 that of tokens, given as responses of --tokens

Expected gain: plain generation encodes image and prompt --samples times, ours once, so the ratio grows with the length
of the prompt. The tokens after it cost the same. But most of a small model's cost is starting each step, which the
prompts of a batch share.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mpo_lightning.data.prompts import QuestionFile, Repeated  # noqa: E402
from mpo_lightning.inference.embedded import EmbeddedEngine  # noqa: E402
from mpo_lightning.inference.engine import Work  # noqa: E402
from mpo_lightning.inference.options import EngineOptions, TrainerOptions  # noqa: E402
from mpo_lightning.models.draws import Draws, forbidden_ids  # noqa: E402
from mpo_lightning.models.export import save_folder  # noqa: E402
from mpo_lightning.models.family import Processor  # noqa: E402
from mpo_lightning.models.generation import EncodedPrompt, generate, pad_prompts  # noqa: E402
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures, normalize_tiles  # noqa: E402
from mpo_lightning.models.internvl.tiny import tiny_model  # noqa: E402
from mpo_lightning.models.sampling import Sampling  # noqa: E402

TILES = 5  # a grid of four and the thumbnail

ENGINE_PROMPTS = {"tiny": 128, "small": 16}


def small_model() -> tuple[InternVLForConditionalGeneration, Processor]:
    """Tiles and tokens as in a real InternVL2, at a hundredth of its parameters."""
    _, tiny = tiny_model(0)
    vision = InternVLVisionConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        intermediate_size=1536,
        image_size=[448, 448],
        patch_size=[14, 14],
    )
    text = Qwen2Config(
        vocab_size=len(tiny.tokenizer),
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=1536,
    )
    image_token = tiny.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    torch.manual_seed(0)
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=image_token, image_seq_length=256)
    return InternVLForConditionalGeneration(config).eval(), Processor(tiny.tokenizer, tiny.template, InternVLPictures())


def prompt_of(processor: Processor, number: int) -> EncodedPrompt:
    encoder = processor.encoder(12, 8192, "set_aside")
    tiles = torch.randint(
        0,
        256,
        (TILES, 3, processor.tile_size, processor.tile_size),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(number),
    )
    return EncodedPrompt(
        torch.tensor(encoder.prompt_ids(f"<image>\nHow many bars are taller than bar {number}?", [TILES])), tiles
    )


def seconds(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def engine_rate(
    model: InternVLForConditionalGeneration, processor: Processor, options: argparse.Namespace, prompts: int
) -> float:
    """Responses of --tokens a second, over a whole run of the embedded engine."""
    with tempfile.TemporaryDirectory() as place:
        folder, questions, output = (
            Path(place) / "model",
            Path(place) / "questions.jsonl",
            Path(place) / "answers.jsonl",
        )
        folder.mkdir()
        save_folder(model, processor, folder)
        side = 2 * processor.tile_size
        noise = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        Image.fromarray(noise.numpy()).save(Path(place) / "noise.png")
        rows = [
            {"image": "noise.png", "question": f"How many bars are taller than bar {number}?"}
            for number in range(prompts)
        ]
        questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        trainer = TrainerOptions("cpu", "1")
        engine = EmbeddedEngine(
            str(folder),
            EngineOptions(max_tiles=TILES - 1, batch_size=options.prompts * options.samples, num_workers=0),
            trainer,
        )
        work = Work(Repeated(QuestionFile(questions), options.samples), "benchmark", options.tokens, Sampling())
        spent = seconds(lambda: engine.answer(work, output))
        tokens = sum(json.loads(line)["response_tokens"] for line in output.read_text().splitlines())
    return tokens / options.tokens / spent


@torch.no_grad()
def compare(
    name: str, model: InternVLForConditionalGeneration, processor: Processor, options: argparse.Namespace
) -> dict[str, Any]:
    prompts = [prompt_of(processor, number) for number in range(options.prompts)]
    end = processor.tokenizer.convert_tokens_to_ids(processor.template.end)
    # No answer ends early, so that both sides write the same number of tokens.
    forbidden = [*forbidden_ids(processor.tokenizer, processor.template.end, model.config.text_config.vocab_size), end]

    def plain() -> None:
        for prompt in prompts:
            made = model.generate(
                input_ids=prompt.ids[None],
                attention_mask=torch.ones_like(prompt.ids)[None],
                pixel_values=normalize_tiles(prompt.tiles),
                do_sample=True,
                temperature=1.0,
                top_k=50,
                num_return_sequences=options.samples,
                max_new_tokens=options.tokens,
                suppress_tokens=forbidden,
                eos_token_id=None,
                pad_token_id=end,
            )
            assert made.shape == (options.samples, len(prompt.ids) + options.tokens)

    def ours(at_once: int) -> None:
        for first in range(0, len(prompts), at_once):
            batch = prompts[first : first + at_once]
            rows = [place for place in range(len(batch)) for _ in range(options.samples)]
            draws = Draws(Sampling(), [first * options.samples + number for number in range(len(rows))], forbidden)
            answers = generate(model, processor, pad_prompts(batch), options.tokens, draws=draws, rows=rows)
            assert [answer.tokens for answer in answers] == [options.tokens] * len(rows)

    both = {"plain": plain, "ours": partial(ours, options.prompts), "one by one": partial(ours, 1)}
    for function in both.values():
        function()
    times: dict[str, list[float]] = {side: [] for side in both}
    for _ in range(options.rounds):
        for side, function in both.items():
            times[side].append(seconds(function))
    best = {side: min(found) for side, found in times.items()}
    ratios = {side: best["plain"] / best[side] for side in ("ours", "one by one")}
    rates = {side: options.prompts * options.samples / spent for side, spent in best.items()}
    rates["engine"] = engine_rate(model, processor, options, options.engine_prompts or ENGINE_PROMPTS[name])
    ratios["engine"] = rates["engine"] / rates["plain"]
    print(
        f"{name:<6}{len(prompts[0].ids):>8}{rates['plain']:>10.2f}{rates['ours']:>10.2f}{ratios['ours']:>8.2f}"
        f"{ratios['one by one']:>14.2f}{rates['engine']:>10.2f}{ratios['engine']:>8.2f}"
    )
    return {
        "model": name,
        "prompt_tokens": len(prompts[0].ids),
        "responses_per_second": rates,
        "ratio": ratios["ours"],
        "ratios": ratios,
        "seconds": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--engine_prompts", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["tiny", "small"], choices=["tiny", "small"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        f"responses a second, {options.samples} a prompt, {options.tokens} tokens each, {torch.get_num_threads()} "
        "threads"
    )
    print(f"{'model':<6}{'prompt':>8}{'plain':>10}{'ours':>10}{'ratio':>8}{'one by one':>14}{'engine':>10}{'ratio':>8}")
    made = {"tiny": lambda: tiny_model(0), "small": small_model}
    found = [compare(name, *made[name](), options) for name in options.models]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
