"""The command line of a study."""

import argparse
from pathlib import Path

from miniature.cells import CONDITIONS, Base, Cell, condition_cells
from miniature.loop import Study
from miniature.study import REDUCED, Size

DESCRIPTION = """The paper in miniature: trains a base, builds pairs with it, trains on them by each loss,
and says with intervals what each did.

  python benchmarks/miniature.py                                         half an hour: `make miniature`
  python benchmarks/miniature.py --bases 2 --pair-sets 3 --conditions    two to three hours more: `make miniature-grid`
  python benchmarks/miniature.py --reduced --output runs/reduced         two minutes, to try the machinery

Started again it goes on where it was. OUTPUT/report.html is the result,
OUTPUT/commands.log has every `mpo` command as it ran."""


def main() -> None:
    """Entry point; see benchmarks/miniature.py."""
    conditions = "\n".join(f"  {name:<12} {condition.said}" for name, condition in CONDITIONS.items())
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=f"conditions:\n{conditions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/miniature"), help="folder of the study (default runs/miniature)"
    )
    parser.add_argument("--bases", type=at_least_one, default=1, help="base models (default 1)")
    parser.add_argument(
        "--pair-sets", type=at_least_one, default=1, help="pair sets of each base, from other questions (default 1)"
    )
    parser.add_argument(
        "--conditions", action="store_true", help="also on pairs made or chosen otherwise, listed below"
    )
    parser.add_argument(
        "--reduced",
        action="store_true",
        help="all learned by heart, to try the machinery: its numbers mean nothing; give it another --output",
    )
    parser.add_argument("--at-once", type=at_least_one, default=2, help="commands at a time, one core each (default 2)")
    options = parser.parse_args()
    cells = [Cell(Base(base), variant) for base in range(options.bases) for variant in range(options.pair_sets)]
    study = Study(options.output, REDUCED if options.reduced else Size(), options.at_once)
    try:
        study.run(cells, condition_cells() if options.conditions else [])
    except KeyboardInterrupt:
        raise SystemExit("\nstopped; the same command goes on from here") from None


def at_least_one(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
