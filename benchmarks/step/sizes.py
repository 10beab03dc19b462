"""Measures the step at real sizes on one device: pairs and tokens per second, MFU and peak memory, beside the oracle.

    python benchmarks/step.py --preset internvl2-2b [--device cuda] [--tiles 7] [--pairs 1] [--lora] [--json FILE]

Weights are random and pairs synthetic. Each line is measured with gradient checkpointing off and on; one that does not
fit the device's memory says so. MFU counts distinct work only (`models/flops.py`): repeated computation does not count,
so the oracle's MFU is low by what it repeats. Weights are float32 under bf16 autocast, as in training; `--weights
bfloat16` measures a shape whose float32 weights do not fit.
"""

import argparse
import gc
import importlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError
from mpo_lightning.models.freeze import recompute_activations
from mpo_lightning.models.lora import Lora, add_adapters
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective, SequenceLogps
from step.pairs import config_of, step_flops, synthetic_pairs, token_counts
from step.variants import two_sequences

# Dense bf16 TFLOP/s of the vendor's data sheets.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}


def measure(arguments: argparse.Namespace, pairs: list[EncodedPair], kind: str, checkpointing: bool) -> dict[str, Any]:
    """Seconds and peak bytes of a step of one kind: `oracle` (live reference), `ours, live` or `ours, cached`."""
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    models = []
    for _ in range(1 if kind == "ours, cached" else 2):
        with torch.device(device):
            models.append(
                InternVLForConditionalGeneration(config_of(arguments.preset)).to(getattr(torch, arguments.weights))
            )
    policy, reference = models[0], models[-1]
    if arguments.lora:
        add_adapters(policy, Lora())
    if len(models) == 2:
        reference.requires_grad_(False).eval()
    if checkpointing:
        recompute_activations(policy)
    policy.train()
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    module, _, name = arguments.optimizer.rpartition(".")
    optimizer = getattr(importlib.import_module(module), name)(trained, lr=0.0)
    objective = MPOObjective()
    if kind == "oracle":
        functions = [lambda model=model: two_sequences(model, pairs, False, False) for model in models]
    else:
        batch = collate(pairs, 448).to(device)
        forwards = [PairForward(model) for model in models]
        functions = [lambda forward=forward: forward(batch)[0] for forward in forwards]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        cached: SequenceLogps = functions[-1]().detach()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
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


def line(
    arguments: argparse.Namespace, pairs: list[EncodedPair], kind: str, checkpointing: bool, peak: float | None
) -> dict[str, Any]:
    """One measured line; `fits` is False where the device ran out of memory."""
    found: dict[str, Any] = {"kind": kind, "checkpointing": checkpointing, "fits": True}
    try:
        found |= measure(arguments, pairs, kind, checkpointing)
    except torch.OutOfMemoryError:
        return found | {"fits": False}
    finally:
        gc.collect()
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
    seconds, tokens = found["seconds"], sum(map(sum, token_counts(pairs)))
    found |= {"pairs_per_s": len(pairs) / seconds, "tokens_per_s": tokens / seconds}
    if peak and not arguments.lora:
        found["mfu"] = step_flops(config_of(arguments.preset), pairs, kind != "ours, cached") / seconds / peak / 1e12
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, help="internvl2-1b, -2b, -4b, -8b, -26b, -40b, -76b, or toy")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiles", type=int, default=7, help="tiles of a pair, the thumbnail counted")
    parser.add_argument("--pairs", type=int, default=1, help="pairs in a row")
    parser.add_argument("--weights", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 16 instead of all weights")
    parser.add_argument(
        "--optimizer", default="torch.optim.AdamW", help="its import path, for example of an 8-bit or offloaded one"
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the lines there")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu measures the small presets")
    try:
        config_of(arguments.preset)
    except InputError as error:
        parser.error(str(error))
    pairs = synthetic_pairs(arguments.pairs, arguments.tiles, config_of(arguments.preset).text_config.vocab_size)
    tokens = sum(map(sum, token_counts(pairs)))
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in device), None)
    print(
        f"{device}; {arguments.preset}, {arguments.pairs} pairs of {arguments.tiles} tiles, {tokens:,} distinct "
        f"tokens; weights {arguments.weights}, "
        f"{'adapters' if arguments.lora else 'all weights'} trained by {arguments.optimizer}"
    )
    print(f"{'':<14}{'checkpointing':>14}{'pairs/s':>10}{'tokens/s':>12}{'MFU':>8}{'peak GB':>10}")
    lines = []
    for checkpointing in (False, True):
        for kind in ("oracle", "ours, live", "ours, cached"):
            found = line(arguments, pairs, kind, checkpointing, peak)
            lines.append(found)
            numbers = (
                f"{found['pairs_per_s']:>10.2f}{found['tokens_per_s']:>12.0f}"
                + (f"{found['mfu']:>8.2f}" if "mfu" in found else f"{'-':>8}")
                + f"{found['peak_bytes'] / 1e9:>10.1f}"
                if found["fits"]
                else "  does not fit"
            )
            print(f"{kind:<14}{'on' if checkpointing else 'off':>14}{numbers}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": device, "preset": arguments.preset, "lines": lines}, indent=1))
