"""Runs the paper in miniature on a CPU: trains a base, samples, verifies, pairs, makes DropoutNTP pairs, trains with
every loss, evaluates and compares.

    python benchmarks/miniature.py                                        one base, one pair set: `make miniature`
    python benchmarks/miniature.py --bases 2 --pair-sets 3 --conditions   the grid: `make miniature-grid`
    python benchmarks/miniature.py --reduced --output FOLDER              about two minutes, to test the code

Every stage is an `mpo` command; OUTPUT/commands.log lists them as they ran. Started again after a kill, it resumes.
OUTPUT/report.html is the result.
"""

from miniature.options import main

if __name__ == "__main__":
    main()
