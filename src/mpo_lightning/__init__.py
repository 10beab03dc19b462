"""Mixed Preference Optimization of InternVL2 vision-language models on PyTorch Lightning."""

import os

# Read when torch loads OpenMP. Threads that wait for work would otherwise keep the cores of other processes busy, and
# loader workers and ranks on one machine take turns.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
