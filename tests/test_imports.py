"""What is loaded stays out of garbage collections; what is made between and after does not."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, weakref
from mpo_lightning.commands.verbs import load

class Cycle:
    def __init__(self): self.itself = self

assert load("large").collected is False and gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 1000
later = weakref.ref(Cycle())
assert load("large").things  # is there already
gc.collect()
assert later() is None and gc.get_freeze_count() == frozen
try:
    load("no_such_module")
except ModuleNotFoundError:
    assert gc.isenabled()
"""


def test_what_is_loaded_is_left_out_and_the_collector_goes_on(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("import gc\ncollected = gc.isenabled()\nthings = [[] for _ in range(1001)]\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_training_leaves_its_imports_out(root: Path) -> None:
    """At its end a command gives the objects back to the collector; how many these are is all that can be seen."""
    program = (
        "import gc, sys; gc.unfreeze = lambda: print(gc.get_freeze_count()); sys.argv = ['mpo', 'fit', '--help']\n"
    )
    program += "from mpo_lightning.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert int(done.stdout.splitlines()[-1]) > 300_000, done.stdout[-500:] + done.stderr
