"""Stopping every rank at once.

A rank that alone raised would leave the others waiting in their next collective until they time out. Where all ranks
meet, they tell each other, and stop together. Where one died or hangs, the others notice by their collectives' errors
(`lost_ranks`).
"""

import atexit
import importlib
import os
import sys
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist

from mpo_lightning.errors import InputError

Part = TypeVar("Part")


def forget_earlier_attempts() -> None:
    """For a worker that torchrun started again: what the workers before it wrote into the ranks' common store does not
    count.

    With a fixed master address torchrun keeps one store for all attempts, and torch reads other ranks' addresses out of
    it: now and then those of workers that are gone, to which no connection can be made ("Gloo connectFullMesh failed
    ... Connection refused"). Called before the process group is made.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    # The package's attribute of that name is a function.
    rendezvous: Any = importlib.import_module("torch.distributed.rendezvous")
    made = rendezvous._create_c10d_store

    def numbered(*arguments: Any, **options: Any) -> dist.Store:
        return dist.PrefixStore(f"mpo_lightning/attempt_{attempt}", made(*arguments, **options))

    rendezvous._create_c10d_store = numbered


def gather(part: Part) -> list[Part]:
    """`part` of every rank, in the order of ranks; every rank calls this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [part]
    parts: list[Part] = [part] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def of_rank_zero(value: Part) -> Part:
    """`value` as rank 0 has it; every rank calls this."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def stop_together(problem: str | None) -> None:
    """Stops every rank if any has a problem; every rank calls this.

    Raises:
        InputError: on rank 0, which speaks for all.
        SystemExit: on the others, with code 0, since a launcher kills rank 0 when another rank fails before it has
            spoken.
    """
    problems = [found for found in gather(problem) if found is not None]
    if not problems:
        return
    if dist.is_available() and dist.is_initialized() and dist.get_rank() != 0:
        raise SystemExit(0)
    raise InputError(problems[0])


def end_process(code: int) -> NoReturn:
    """Ends a process that was one of several, after what others registered for its end.

    Without Python's own end: a gloo thread that meets it aborts the process now and then, with another exit code
    ("terminate called without an active exception").
    """
    dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
