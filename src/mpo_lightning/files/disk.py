"""A disk that is full, or may not be written: whoever wrote to it, the run ends with one sentence."""

import errno
import os
import re

from safetensors import SafetensorError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of a full or read-only disk, which another attempt does not mend."""


def disk_problem(error: BaseException) -> str | None:
    """The sentence for an error that a full or read-only disk caused; None for any other."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, SafetensorError) and (found := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(found[1])
    if number not in DISK_ERRORS:
        return None
    where = getattr(error, "filename", None) or "a file of the run"
    return (
        f"{where}: cannot be written ({os.strerror(number)}); earlier checkpoints are whole: make room and go on "
        "with --ckpt_path auto"
    )
