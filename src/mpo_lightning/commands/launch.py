"""`mpo launch`: prints the script that starts a run on many machines, by SLURM or torchrun."""

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from mpo_lightning.commands.verbs import load
from mpo_lightning.errors import InputError

HELP = """usage: mpo launch --nodes N --gpus G [--scheduler slurm|torchrun] [options] FIT_OPTIONS

Prints a script for N machines with G GPUs each that runs `mpo fit FIT_OPTIONS` and resumes by itself after a preemption or a crash:
    mpo launch --nodes 8 --gpus 8 --config recipe/mpo ... > job.sh && sbatch job.sh

options:
  --nodes N          number of machines
  --gpus G           number of GPUs of each machine
  --scheduler S      slurm (sbatch script, the default), or torchrun (the command to start on each machine)
  --time T           slurm: the job's time limit, such as 24:00:00 (default)
  --cpus C           slurm: CPU cores for each GPU's process and its loaders (default 12)
  --job_name NAME    slurm: the job's name (default mpo)
  --restarts R       torchrun: number of restarts after a crash (default 3)
  --port P           torchrun: port of the first machine (default 29500)
  FIT_OPTIONS        options of `mpo fit`, passed as they are; --ckpt_path auto is added if there is none
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
# Three minutes before the limit Lightning saves a checkpoint and requeues the job; a failed node requeues it too. The next start resumes from the
# newest intact checkpoint.
set -euo pipefail
export OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 {command}
"""
TORCHRUN = """#!/bin/bash
# Start this on each of the {nodes} machines, with the first one's name in HEAD. A crashed run is restarted on all of them, up to {restarts} times, and
# resumes from the newest intact checkpoint.
set -euo pipefail
export OMP_NUM_THREADS=1
torchrun --nnodes={nodes} --nproc-per-node={gpus} --max-restarts={restarts} \\
  --rdzv-backend=c10d --rdzv-id=mpo --rdzv-endpoint="${{HEAD:-localhost}}:{port}" \\
  -m {command}
"""


def launch(line: Sequence[str]) -> None:
    """Prints the script.

    Raises:
        InputError: an option has no value or a bad one, there is nothing to run, or `mpo fit` refuses its options.
    """
    arguments = list(line[1:])
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    options, fit, words = dict(DEFAULTS), [], list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in (*DEFAULTS, "nodes", "gpus"):
            if not equals and not words:
                raise InputError(f"{word} needs a value; 'mpo launch --help' shows one")
            options[name] = value if equals else words.pop(0)
        else:
            fit.append(word)
    for name in ("nodes", "gpus", "cpus", "restarts", "port"):
        if not re.fullmatch("[0-9]{1,9}", options.get(name, "")) or (name != "restarts" and int(options[name]) < 1):
            raise InputError(
                f"--{name} must be a whole number of at least 1, got {options.get(name)!r}; 'mpo launch --help' "
                "explains it"
            )
    if not fit:
        raise InputError("there is nothing to run; give the options of 'mpo fit', such as --config recipe/mpo")
    if options["scheduler"] not in ("slurm", "torchrun"):
        raise InputError(f"--scheduler must be slurm or torchrun, got {options['scheduler']!r}")
    for name, form in (("time", r"(\d+-)?\d+(:\d+){0,2}"), ("job_name", r"\w[\w.+-]*")):
        if not re.fullmatch(form, options[name]):
            raise InputError(f"--{name} is {options[name]!r}; it goes into the script as it is and must match {form}")
    if int(options["port"]) > 65_535:
        raise InputError(f"--port must be at most 65535, got {options['port']}")
    if any(word.startswith("--print_config") for word in fit):
        raise InputError(
            "--print_config has no place in a launch script; use 'mpo fit ... --print_config' to see the config"
        )
    config = load("mpo_lightning.commands.fit").ParsedOnly(["fit", *fit]).config.fit
    _refuse_contradictions(config, int(options["nodes"]), int(options["gpus"]))
    fit += [] if config.ckpt_path else ["--ckpt_path", "auto"]
    fit += ["--trainer.num_nodes", options["nodes"], "--trainer.devices", options["gpus"]]
    program = ["mpo"] if options["scheduler"] == "slurm" else ["mpo_lightning"]
    script = SLURM if options["scheduler"] == "slurm" else TORCHRUN
    sys.stdout.write(script.format(command=shlex.join([*program, "fit", *fit]), **options))


def _refuse_contradictions(config: Any, nodes: int, gpus: int) -> None:
    """Raises InputError if `mpo fit` would not use these machines, or not resume by itself as the script should."""
    trainer = config.trainer
    if config.ckpt_path not in (None, "auto", "last"):
        raise InputError(
            f"--ckpt_path {config.ckpt_path} has no place in a launch script: it resumes by itself; leave it out"
        )
    for name, option, given, untold in (("num_nodes", "--nodes", nodes, "1"), ("devices", "--gpus", gpus, "auto")):
        if str(trainer[name]) not in (str(given), untold, "-1"):
            raise InputError(
                f"trainer.{name} is {trainer[name]}, but {option} is {given}: give the number to {option} alone, and "
                "use configs/strategy/ddp.yaml, fsdp2.yaml or hybrid.yaml"
            )
    if "deepspeed" in str(trainer.strategy).lower():
        raise InputError(
            "trainer.strategy: DeepSpeed's checkpoints have no manifest, so --ckpt_path auto cannot resume from them; "
            "use configs/strategy/fsdp2.yaml or hybrid.yaml"
        )
