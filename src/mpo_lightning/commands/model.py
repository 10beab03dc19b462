"""`mpo model ...`"""

import json
from pathlib import Path
from typing import Literal

from mpo_lightning.commands.progress import progress_bar
from mpo_lightning.errors import InputError


def tiny(output: str, seed: int = 0) -> None:
    """Writes a tiny InternVL2 with random weights: the real architecture, 1.2 M parameters, with its tokenizer.

    Args:
        output: a new checkpoint folder.
        seed: of the weights.
    """
    if Path(output).exists() and (not Path(output).is_dir() or any(Path(output).iterdir())):
        raise InputError(f"{output}: the folder is not empty; choose a new one")
    from mpo_lightning.models.tiny import write_tiny_model

    print(f"{output}: {write_tiny_model(Path(output), seed):,} parameters")


def convert(source: str, output: str, to: Literal["transformers", "opengvlab"] = "transformers", like: str | None = None) -> None:
    """Rewrites a checkpoint from the original OpenGVLab layout to transformers', or back, exactly: the same numbers under other names.

    Runs no remote code, needs memory for one shard of 2 GB, and stops with the name of whatever does not fit. All of InternVL2's language
    models (InternLM2, Qwen2, Llama, Phi-3) and both vision towers. Every verb takes an original folder as well and converts it by itself.

    Args:
        source: the checkpoint folder.
        output: a new folder; it appears when it is whole.
        to: the layout to write.
        like: for opengvlab, an original folder of the same model whose Python and tokenizer files are copied; default those that the
            source keeps from its own conversion (SOURCE/original).
    """
    from mpo_lightning.models.loading import read_config
    from mpo_lightning.models.opengvlab.cache import is_original
    from mpo_lightning.models.opengvlab.convert import to_opengvlab, to_transformers

    folder, target = Path(source), Path(output)
    if to == "transformers" and like is not None:
        raise InputError("--like is for --to opengvlab")
    original = is_original(folder)
    if not original:
        read_config(folder)
    if original == (to == "opengvlab"):
        raise InputError(f"{source}: this is in the {to} layout already")
    with progress_bar("weights", unit="bytes") as advance:
        if to == "transformers":
            numbers = to_transformers(folder, target, advance)
        else:
            numbers = to_opengvlab(folder, target, Path(like) if like else None, advance)
    print(f"{output}: {numbers:,} parameters in the {to} layout")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    missing = {
        name
        for names in config.get("auto_map", {}).values()
        for name in [f"{names.split('.')[0]}.py"]
        if not (target / name).is_file()
    }
    if to == "opengvlab" and (missing or "auto_map" not in config):
        print("  its Python files are not there; for tools that run them, give --like ORIGINAL with a complete download")
