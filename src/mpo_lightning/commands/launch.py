"""`mpo launch`: prints the script that starts a run on many machines. It starts nothing; SLURM and torchrun do."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mpo_lightning.errors import InputError

HELP = """usage: mpo launch --nodes N --gpus G [--scheduler slurm|torchrun] [options] FIT_OPTIONS

Prints a script for N machines with G GPUs each that runs `mpo fit FIT_OPTIONS` and goes on by itself after a preemption or a crash:
    mpo launch --nodes 8 --gpus 8 --config configs/base.yaml --config configs/recipe/mpo.yaml ... > job.sh && sbatch job.sh

options:
  --nodes N          machines
  --gpus G           GPUs of each
  --scheduler S      slurm (sbatch script, the default), or torchrun (the command to start on each machine)
  --time T           slurm: the job's time limit, such as 24:00:00 (default)
  --cpus C           slurm: CPU cores for each GPU's process and its loaders (default 12)
  --job_name NAME    slurm: (default mpo)
  --restarts R       torchrun: how often a crashed run is started again (default 3)
  --port P           torchrun: of the first machine (default 29500)
  FIT_OPTIONS        handed to `mpo fit` as they are; --ckpt_path auto is added where there is none
"""
DEFAULTS = {"scheduler": "slurm", "time": "24:00:00", "cpus": "12", "job_name": "mpo", "restarts": "3", "port": "29500"}

SLURM = """#!/bin/bash
#SBATCH --job-name={job_name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={gpus}
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=SIGUSR1@180
# Three minutes before the limit Lightning saves a checkpoint and puts the job back into the queue; a node that fails does so too. Either way the
# next start goes on from the newest whole checkpoint.
set -euo pipefail
export OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 {command}
"""
TORCHRUN = """#!/bin/bash
# Start this on each of the {nodes} machines, with the first one's name in HEAD. A run that crashes is started again on all of them, up to {restarts}
# times, and goes on from the newest whole checkpoint.
set -euo pipefail
export OMP_NUM_THREADS=1
torchrun --nnodes={nodes} --nproc-per-node={gpus} --max-restarts={restarts} \\
  --rdzv-backend=c10d --rdzv-id=mpo --rdzv-endpoint="${{HEAD:-localhost}}:{port}" \\
  -m {command}
"""


def launch(arguments: Sequence[str]) -> None:
    """Prints the script.

    Raises:
        InputError: an option without a value, a number that is none, or nothing to run.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    options, fit = dict(DEFAULTS), []
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") and "=" in word else [word])]
    while words:
        word = words.pop(0)
        name = word.removeprefix("--")
        if word.startswith("--") and name in (*DEFAULTS, "nodes", "gpus"):
            if not words:
                raise InputError(f"{word} needs a value; 'mpo launch --help' shows one")
            options[name] = words.pop(0)
        else:
            fit.append(word)
    for name in ("nodes", "gpus", "cpus", "restarts", "port"):
        if not re.fullmatch("[0-9]{1,9}", options.get(name, "")) or (name != "restarts" and int(options[name]) < 1):
            raise InputError(
                f"--{name} has to be a whole number of at least 1, got {options.get(name)!r}; 'mpo launch --help' explains it"
            )
    if not fit:
        raise InputError(
            "there is nothing to run; give the options of 'mpo fit', such as --config configs/base.yaml --config configs/recipe/mpo.yaml"
        )
    if options["scheduler"] not in ("slurm", "torchrun"):
        raise InputError(f"--scheduler is slurm or torchrun, not {options['scheduler']!r}")
    for name, way in (
        ("ckpt_path", "the script goes on by itself"),
        ("trainer.num_nodes", "give --nodes"),
        ("trainer.devices", "give --gpus"),
    ):
        given = [value for word, value in zip(fit, [*fit[1:], ""], strict=True) if word == f"--{name}"]
        if given and (name != "ckpt_path" or given[0] not in ("auto", "last")):
            raise InputError(f"--{name} {given[0]} has no place in a launch script: {way}; leave it out")
    for name, form in (("time", r"[\d:-]+"), ("job_name", r"[\w.+-]+")):
        if not re.fullmatch(form, options[name]):
            raise InputError(f"--{name} is {options[name]!r}; it goes into the script as it is and has to be of {form}")
    for word, value in zip(fit, [*fit[1:], ""], strict=True):
        if word == "--config" and not Path(value).is_file():
            raise InputError(f"--config {value}: no such file; start mpo launch where the run will start")
    if int(options["port"]) > 65_535:
        raise InputError(f"--port {options['port']}: there are ports up to 65535")
    _refuse_unknown(fit)
    overlays = _trainers(fit)
    _refuse_few_devices(overlays, int(options["nodes"]), int(options["gpus"]))
    _refuse_deepspeed(overlays, fit)
    fit += [] if any(word.startswith("--ckpt_path") for word in fit) else ["--ckpt_path", "auto"]
    fit += ["--trainer.num_nodes", options["nodes"], "--trainer.devices", options["gpus"]]
    program = ["mpo"] if options["scheduler"] == "slurm" else ["mpo_lightning"]
    script = SLURM if options["scheduler"] == "slurm" else TORCHRUN
    sys.stdout.write(script.format(command=shlex.join([*program, "fit", *fit]), **options))


FIT_OPTIONS = ("config", "ckpt_path", "seed_everything", "weights_only", "trainer", "model", "data")
"""First parts of the names of `mpo fit`'s options."""


def _refuse_unknown(fit: Sequence[str]) -> None:
    for word in fit:
        unknown = word.startswith("--") and word.removeprefix("--").split(".")[0] not in FIT_OPTIONS
        if unknown or re.match("-[a-z]", word):
            raise InputError(f"{word} is no option of mpo launch or mpo fit; 'mpo launch --help' and 'mpo fit --help' list them")


def _trainers(fit: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The trainer's part of each overlay that has one, with the overlay's name."""
    found = []
    for word, value in zip(fit, [*fit[1:], ""], strict=True):
        if word != "--config":
            continue
        try:
            content = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"--config {value}: it cannot be read ({str(error).splitlines()[0]})") from None
        trainer = content.get("trainer") if isinstance(content, dict) else None
        if isinstance(trainer, dict):
            found.append((value, trainer))
    return found


def _refuse_few_devices(overlays: Sequence[tuple[str, dict[str, Any]]], nodes: int, gpus: int) -> None:
    """Raises InputError for overlays whose number of devices, the last one's, is too small for the machines."""
    name, devices = next(((name, trainer["devices"]) for name, trainer in reversed(overlays) if "devices" in trainer), ("", 0))
    if isinstance(devices, int) and 0 < devices < nodes * gpus:
        raise InputError(
            f"--config {name} is for {devices} device{'s' * (devices > 1)}, and --nodes {nodes} --gpus {gpus} for {nodes * gpus}; take "
            "configs/strategy/ddp.yaml, fsdp2.yaml or hybrid.yaml"
        )


def _refuse_deepspeed(overlays: Sequence[tuple[str, dict[str, Any]]], fit: Sequence[str]) -> None:
    """Raises InputError where the run would not go on by itself, which is what the script is for."""
    name, strategy = next(
        ((f"--config {name}", trainer["strategy"]) for name, trainer in reversed(overlays) if "strategy" in trainer), ("", "")
    )
    for word, value in zip(fit, [*fit[1:], ""], strict=True):
        if word in ("--trainer.strategy", "--trainer.strategy.class_path"):
            name, strategy = word, value
    if "deepspeed" in str(strategy).lower():
        raise InputError(
            f"{name}: DeepSpeed's checkpoints have no manifest, so that --ckpt_path auto does not go on from them; take "
            "configs/strategy/fsdp2.yaml or hybrid.yaml"
        )
