"""`mpo` commands as a shell would run them, from a fork server that has the large imports.

Each command has a process, a working folder and outputs of its own; the imports are what is saved. Tests
about signals, locks and launchers start real processes instead (`support.processes`).
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mpo_lightning import cli

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = ["mpo_lightning.commands.fit", "mpo_lightning.commands.run", "mpo_lightning.inference.predict"]


def mpo(*words: object, cwd: Path | None = None, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns its exit code and outputs; raises TimeoutExpired after `seconds`."""
    SERVER.set_forkserver_preload(PRELOADED)
    command = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_mpo, args=(command, outputs, cwd or Path.cwd()))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, seconds)
        texts = [path.read_text(errors="replace") for path in outputs]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _mpo(words: list[str], outputs: list[Path], cwd: Path) -> None:
    """What the child does."""
    # Loader workers start as they do under `mpo` itself.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(cwd)
    for stream, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["mpo", *words]
    try:
        cli.main()
    finally:
        atexit._run_exitfuncs()  # a child of multiprocessing leaves them out
