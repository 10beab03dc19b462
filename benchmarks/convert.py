"""Measures whether converting needs memory for a shard or for the model: peak memory over checkpoints of growing size.

    python benchmarks/convert.py [--layers 4 8 16 32] [--json FILE]

Random InternLM2 checkpoints in the original layout, bf16, in shards of a quarter of a gigabyte. A process of its own
converts each one to shards of the same size. The figure is the highest resident set beyond what the process had before
it began, file pages counted.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARD_BYTES = 250_000_000
HIDDEN, HEADS, KV_HEADS, MLP = 2048, 16, 8, 8192


def write_checkpoint(golden: Path, folder: Path, layers: int) -> int:
    """Writes a checkpoint with this number of layers, with the small tower, tokenizer and settings of a golden folder.

    Returns its bytes.
    """
    folder.mkdir(parents=True)
    for path in golden.iterdir():
        if not path.name.startswith("golden") and ".safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    sizes = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": MLP,
        "num_hidden_layers": layers,
    }
    config["llm_config"] |= sizes
    (folder / "config.json").write_text(json.dumps(config))
    from mpo_lightning.models.internvl.opengvlab.config import native_config
    from mpo_lightning.models.internvl.opengvlab.convert import native_shapes
    from mpo_lightning.models.internvl.opengvlab.names import packed_shape, tensor_maps

    shapes = native_shapes(native_config(config, 608, str(folder)))
    shards: list[dict[str, torch.Tensor]] = [{}]
    places, total = {}, 0
    for one in tensor_maps("InternLM2ForCausalLM", max(layers, 2), set(shapes)):
        tensor = torch.randn(packed_shape(tuple(shapes[name] for name in one.native)), dtype=torch.bfloat16)
        if shards[-1] and sum(part.nbytes for part in shards[-1].values()) + tensor.nbytes > SHARD_BYTES:
            save_file(shards[-1], folder / f"model-{len(shards):05}.safetensors")
            shards[-1].clear()
            shards.append({})
        shards[-1][one.original] = tensor
        places[one.original] = f"model-{len(shards):05}.safetensors"
        total += tensor.nbytes
    save_file(shards[-1], folder / f"model-{len(shards):05}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return total


def convert(source: Path, output: Path) -> None:
    """Converts there and back in this process, and prints the extra bytes."""
    from mpo_lightning.models.internvl.opengvlab import convert as conversion

    conversion.SHARD_BYTES = SHARD_BYTES
    before = peak_memory()
    conversion.to_transformers(source, output, lambda done, total: None)
    there = peak_memory()
    conversion.to_opengvlab(output, output.with_name("back"), None, lambda done, total: None)
    print(json.dumps({"there": there - before, "both": peak_memory() - before}))


def peak_memory() -> int:
    """Highest resident set of this process in bytes."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--convert", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.convert:
        convert(*arguments.convert)
        return
    golden = Path(__file__).resolve().parent.parent / "tests" / "golden" / "checkpoints" / "internlm2_gqa"
    rows = []
    print(f"{'checkpoint, GB':>15}{'extra memory there, GB':>24}{'and back, GB':>14}")
    for layers in arguments.layers:
        with tempfile.TemporaryDirectory() as work:
            total = write_checkpoint(golden, Path(work) / "source", layers)
            command = [sys.executable, __file__, "--convert", f"{work}/source", f"{work}/native"]
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
            )
            found = json.loads(done.stdout.splitlines()[-1]) | {"checkpoint": total}
        rows.append(found)
        print(f"{total / 1e9:>15.2f}{found['there'] / 1e9:>24.2f}{found['both'] / 1e9:>14.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
