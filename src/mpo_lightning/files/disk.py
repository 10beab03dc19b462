"""Recognizes a full or read-only disk, so that the run ends with one sentence, whatever wrote to it."""

import errno
import os
import re

from safetensors import SafetensorError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Error numbers of a full or read-only disk, where another attempt does not help."""


def disk_problem(error: BaseException) -> str | None:
    """The message for an error that a full or read-only disk caused; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, SafetensorError) and (found := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(found[1])
    if number not in DISK_ERRORS:
        return None
    where = getattr(error, "filename", None) or "a file of the run"
    return (
        f"{where}: cannot be written ({os.strerror(number)}); earlier checkpoints are intact; free some space and "
        "resume with --ckpt_path auto"
    )
