"""The command `mpo`, to which SIGTERM comes while it starts its second process: that process lives, and nobody but the
system knows of it yet.

python -m support.disturbed VERB ...    (in tests/)
"""

import os
import signal
import subprocess
from typing import Any

from mpo_lightning.cli import main


class Disturbed(subprocess.Popen):  # type: ignore[type-arg]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if "LOCAL_RANK" in (options.get("env") or {}):
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    if "LOCAL_RANK" not in os.environ:
        subprocess.Popen = Disturbed  # type: ignore[misc]
    main()
