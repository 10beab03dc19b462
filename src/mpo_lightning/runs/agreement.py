"""Stops every rank at once.

If one rank raised alone, the others would wait in their next collective until it times out. Where all ranks meet, they
exchange their problems and stop together. If a rank died or hangs, the others notice by the errors of their collectives
(`lost_ranks`).
"""

import os
import sys
from typing import NoReturn, TypeVar

import torch.distributed as dist

from mpo_lightning.errors import InputError
from mpo_lightning.runs.torch_internals import prefix_stores, run_exit_handlers

Part = TypeVar("Part")


def forget_earlier_attempts() -> None:
    """Gives a worker restarted by torchrun a store without the entries of earlier workers.

    With a fixed master address torchrun keeps one store for all attempts, and torch reads other ranks' addresses from
    it. Sometimes these belong to workers that are gone, and connecting fails ("Gloo connectFullMesh failed ...
    Connection refused"). Call this before the process group is created.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    prefix_stores(f"mpo_lightning/attempt_{attempt}")


def gather(part: Part) -> list[Part]:
    """Returns every rank's `part` in the order of ranks; every rank calls this."""
    if not (dist.is_available() and dist.is_initialized()):
        return [part]
    parts: list[Part] = [part] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def of_rank_zero(value: Part) -> Part:
    """Returns rank 0's `value`; every rank calls this."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def stop_together(problem: str | None) -> None:
    """Stops every rank if any has a problem; every rank calls this.

    Args:
        problem: this rank's message, or None.

    Raises:
        InputError: on rank 0, which reports for all.
        SystemExit: on the other ranks, with code 0, because a launcher kills rank 0 when another rank fails before it
            has reported.
    """
    problems = [found for found in gather(problem) if found is not None]
    if not problems:
        return
    if dist.is_available() and dist.is_initialized() and dist.get_rank() != 0:
        raise SystemExit(0)
    raise InputError(problems[0])


def end_process(code: int) -> NoReturn:
    """Ends one of several processes after running its exit handlers.

    Python's own shutdown is skipped: it sometimes makes a gloo thread abort the process with another exit code
    ("terminate called without an active exception").
    """
    dist.destroy_process_group()
    run_exit_handlers()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
