"""Runs the peer's script with its head scoring response positions only, as it does on a GPU with Triton.

    PEER_PYTHON compact_peer.py TRL_PEER_SCRIPT [its arguments]

On a CPU it would score every position. Only the choice of positions changes; the arithmetic stays TRL's chunked PyTorch
code.
"""

import runpy
import sys
from importlib import import_module
from pathlib import Path

script = sys.argv[1]
sys.path.insert(0, str(Path(script).resolve().parent))
import_module("tvfix")  # before anything that looks for torchvision
import_module("trl.trainer.utils")._use_triton = lambda device: True
sys.argv = sys.argv[1:]
runpy.run_path(script, run_name="__main__")
