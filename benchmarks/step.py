"""Our training step, side by side with others. Two modes:

    python benchmarks/step.py [--peer-python P --peer-script trl_peer.py] [--json FILE]
        against the two-sequence oracle and TRL on one CPU thread: time, memory, loss, an ablation of each idea

    python benchmarks/step.py --preset internvl2-2b [--device cuda] [--json FILE]
        at real sizes on one device with random weights: pairs/s, tokens/s, MFU, peak memory, beside the oracle

Add --help to either. `step/curve.py` measures how the cost grows.
"""

import sys

from step import compare, sizes

if __name__ == "__main__":
    words = sys.argv[1:]
    if words == ["--help"] or words == ["-h"]:
        print(__doc__)
    (sizes if any(word.startswith("--preset") for word in words) else compare).main()
