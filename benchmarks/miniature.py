"""The paper in miniature: trains a base, samples, verifies, pairs, makes DropoutNTP pairs, trains by every loss,
evaluates and compares, on a CPU.

    python benchmarks/miniature.py                                        one base, one pair set: `make miniature`
    python benchmarks/miniature.py --bases 2 --pair-sets 3 --conditions   the grid: `make miniature-grid`
    python benchmarks/miniature.py --reduced --output FOLDER              about two minutes, to try the machinery

Every stage is an `mpo` command (OUTPUT/commands.log has them as they ran); started again after a kill it goes on where
it was. OUTPUT/report.html is the result.
"""

from miniature.options import main

if __name__ == "__main__":
    main()
