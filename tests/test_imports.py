"""What is loaded stays out of garbage collections; what comes later does not."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from mpo_lightning.imports import load

class Cycle:
    def __init__(self): self.itself = self

load("json.tool")
frozen = gc.get_freeze_count()
assert frozen > 1000 and gc.isenabled()
try:
    load("no_such_module")
except ModuleNotFoundError:
    assert gc.isenabled()
later = weakref.ref(Cycle())
gc.collect()
assert later() is None
"""


def test_what_is_loaded_is_left_out_and_the_collector_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
