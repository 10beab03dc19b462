"""`mpo quickstart`: trains a tiny model on the sample pairs, from any folder, on a CPU."""

import subprocess
import sys
from pathlib import Path

from mpo_lightning.errors import InputError

SAMPLE = Path(__file__).parent.parent / "samples" / "mmpr_sample" / "meta.json"
"""The meta.json of the package's sample pairs; in a clone it links to the repository's."""
RUN = Path("runs") / "quickstart"
CONFIGS = ("--config", "recipe/mpo", "--config", "recipe/quickstart")


def quickstart() -> None:
    """Shards the sample pairs, writes a tiny model with random weights, and trains it with MPO, in runs/quickstart.

    It takes about two minutes on two CPU cores. Each step is an `mpo` command that is printed before it runs.

    Raises:
        InputError: runs/quickstart is not empty.
    """
    if RUN.exists() and any(RUN.iterdir()):
        raise InputError(f"{RUN}: is not empty; delete it, or change to another folder")
    shards, model = str(RUN / "shards"), str(RUN / "model")
    for words in (
        (
            "data",
            "shard",
            "--meta",
            str(SAMPLE),
            "--output",
            shards,
            "--validation",
            "0.125",
            "--shard_megabytes",
            "0.3",
        ),
        ("data", "show", f"{shards}/train", "--output", str(RUN / "pairs.html")),
        ("model", "tiny", "--output", model),
        ("fit", *CONFIGS),
    ):
        print("$ mpo", *words, flush=True)
        # Each command runs in its own process, as if typed; training needs a fresh one.
        code = subprocess.run([sys.executable, "-m", "mpo_lightning", *words], check=False).returncode
        if code:
            raise SystemExit(code)
    print(NEXT)


NEXT = f"""
What to do next:
  look at the pairs      open {RUN}/pairs.html
  look at the curves     open {RUN}/version_0/curves.png
  score unseen pairs     mpo test {" ".join(CONFIGS)} --ckpt_path {RUN}/version_0/checkpoints/last.ckpt
  resume the run         mpo fit {" ".join(CONFIGS)} --trainer.max_epochs 16 --ckpt_path last
  another loss           add: --config recipe/ablation/orpo
  your own pairs         mpo data shard --meta META --output SHARDS --validation 0.01
  the paper's recipe     mpo fit --config recipe/mpo --model.policy MODEL --data.train SHARDS/train"""
