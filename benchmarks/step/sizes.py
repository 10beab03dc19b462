"""The step at real sizes on one device: random weights, synthetic pairs; pairs and tokens per second, MFU, peak memory, beside the oracle.

    python benchmarks/step/sizes.py --preset internvl2-2b [--device cuda] [--tiles 7] [--pairs 1] [--lora] [--checkpointing]

MFU counts distinct work only (`flops.py`): what is computed again or twice does not count, so the oracle's is low by what it repeats.
Weights are float32 under bf16 autocast, as in training; `--weights bfloat16` measures a shape whose float32 weights do not fit.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
)

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.models.lora import Lora, add_adapters
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective, SequenceLogps
from step.flops import distinct_flops
from step.variants import token_counts, two_sequences

# name: language model class, hidden, layers, heads, key-value heads, MLP, vocabulary. Source: the checkpoints' config.json.
SHAPES: dict[str, tuple[Any, int, int, int, int, int, int]] = {
    "internvl2-1b": (Qwen2Config, 896, 24, 14, 2, 4864, 151655),
    "internvl2-2b": (LlamaConfig, 2048, 24, 16, 8, 8192, 92553),
    "internvl2-4b": (Phi3Config, 3072, 32, 32, 32, 8192, 32020),
    "internvl2-8b": (LlamaConfig, 4096, 32, 32, 8, 14336, 92553),
    "toy": (Qwen2Config, 256, 6, 4, 2, 1024, 32768),
}
# Dense bf16 TFLOP/s of the vendor's data sheets.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}


def config_of(preset: str) -> InternVLConfig:
    kind, hidden, layers, heads, kv_heads, mlp, vocabulary = SHAPES[preset]
    text = kind(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads, intermediate_size=mlp,
        vocab_size=vocabulary, max_position_embeddings=32768, tie_word_embeddings=False, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    toy = preset == "toy"
    vision = InternVLVisionConfig(
        hidden_size=192 if toy else 1024, num_hidden_layers=4 if toy else 24, num_attention_heads=3 if toy else 16,
        intermediate_size=768 if toy else 4096, image_size=[448, 448], patch_size=[14, 14], attention_bias=True,
    )  # fmt: skip
    return InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=vocabulary - 1, image_seq_length=256, tie_word_embeddings=False
    )


def synthetic_pairs(
    count: int, tiles: int, vocabulary: int, prompt: int = 80, chosen: int = 300, rejected: int = 350
) -> list[EncodedPair]:
    """Pairs of the shape that MMPR's have on average."""
    generator = torch.Generator().manual_seed(0)

    def tokens(number: int) -> torch.Tensor:
        return torch.randint(0, vocabulary - 1, (number,), generator=generator)

    return [
        EncodedPair(
            str(number), torch.cat([torch.full((256 * tiles,), vocabulary - 1), tokens(prompt)]), tokens(chosen), tokens(rejected),
            torch.randint(0, 256, (tiles, 3, 448, 448), generator=generator, dtype=torch.uint8),
        )
        for number in range(count)
    ]  # fmt: skip


def measure(arguments: argparse.Namespace, pairs: list[EncodedPair], kind: str) -> dict[str, float]:
    """Seconds and peak bytes of a step of one kind: `oracle` (live reference), `ours, live` or `ours, cached`."""
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    models = []
    for _ in range(1 if kind == "ours, cached" else 2):
        with torch.device(device):
            models.append(InternVLForConditionalGeneration(config_of(arguments.preset)).to(getattr(torch, arguments.weights)))
    policy, reference = models[0], models[-1]
    if arguments.lora:
        add_adapters(policy, Lora())
    if len(models) == 2:
        reference.requires_grad_(False).eval()
    if arguments.checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.train()
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    objective = MPOObjective()
    if kind == "oracle":
        functions = [lambda model=model: two_sequences(model, pairs, False, False) for model in models]
    else:
        batch = collate(pairs, 448).to(device)
        forwards = [PairForward(model) for model in models]
        functions = [lambda forward=forward: forward(batch)[0] for forward in forwards]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        cached: SequenceLogps = functions[-1]().detach()
    seconds = []
    for _ in range(arguments.warmup + arguments.steps):
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            logps = functions[0]()
            with torch.no_grad():
                known = cached if kind == "ours, cached" else functions[1]()
            loss = objective(logps, known, 0.0).total.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"seconds": statistics.median(seconds[arguments.warmup :]), "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=SHAPES, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiles", type=int, default=7, help="tiles of a pair, the thumbnail counted")
    parser.add_argument("--pairs", type=int, default=1, help="pairs in a row")
    parser.add_argument("--weights", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 16 instead of all weights")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    arguments = parser.parse_args()
    config = config_of(arguments.preset)
    pairs = synthetic_pairs(arguments.pairs, arguments.tiles, config.text_config.vocab_size)
    tokens = sum(map(sum, token_counts(pairs)))
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    print(f"{name}; {arguments.preset}, {arguments.pairs} pairs of {arguments.tiles} tiles, {tokens:,} distinct tokens; weights {arguments.weights}, "
          f"lora {arguments.lora}, checkpointing {arguments.checkpointing}")  # fmt: skip
    print(f"{'':<14}{'pairs/s':>10}{'tokens/s':>12}{'MFU':>8}{'peak GB':>10}")
    for kind in ("oracle", "ours, live", "ours, cached"):
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found = measure(arguments, pairs, kind)
        flops = distinct_flops(config, token_counts(pairs), arguments.tiles * arguments.pairs, kind != "ours, cached")
        mfu = f"{flops / found['seconds'] / peak / 1e12:8.2f}" if peak and not arguments.lora else f"{'-':>8}"
        print(
            f"{kind:<14}{arguments.pairs / found['seconds']:>10.2f}{tokens / found['seconds']:>12.0f}{mfu}{found['peak_bytes'] / 1e9:>10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
