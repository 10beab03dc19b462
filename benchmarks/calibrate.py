"""Measures how far each rule of the checker can be trusted, on recorded responses with published verdicts.

    python benchmarks/calibrate.py --mathvista FOLDER [--m3cot FOLDER] [--mathvision FOLDER] [--write FILE]

The rows and filters are those of benchmarks/verdicts.py. `--write src/mpo_lightning/answers/measured.json` stores the
counts, from which a verdict's confidence follows (`answers/confidence.py`), and the thresholds of `mpo prefs pair`.

- A choice whose response gives the option's text is checked once more without its options, against the text alone, and
  as a list if it is one. So words, times, ranges, formulas and lists are measured, of which these benchmarks ask few.
- Right verdicts of MATH-Vision are left out: its own rule refuses right answers with units or with an option's text.
- The thresholds: a rule is trusted if its errors are no more than a rule that is right in 99.5 % makes by chance, in
  one of twenty such samples (99 % for the rejection of responses that announce no answer). The threshold is the least
  confidence of trusted rules above all others. The share in which all verdicts above it agree is printed.
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "benchmarks"))

from verdicts import NAMES, prepared  # noqa: E402

from mpo_lightning.answers import Kind, Question, Verdict, check  # noqa: E402
from mpo_lightning.answers.confidence import confidence_from, pooled  # noqa: E402
from mpo_lightning.answers.question import question_of  # noqa: E402
from mpo_lightning.answers.verdicts.choice import gold_choice  # noqa: E402
from mpo_lightning.prefs.filters import first_failed, no_response  # noqa: E402
from mpo_lightning.prefs.options import PairingRules  # noqa: E402

LIST = re.compile(r"-?\d+(?:\.\d+)?(?:,\s*-?\d+(?:\.\d+)?)+")
"""An option that is a list of numbers."""
ANNOUNCED, REJECTED = 0.995, 0.99
"""Agreement with published verdicts that a trusted rule has."""
BY_CHANCE = 0.05
"""Probability of errors by chance below which a rule is not trusted."""
Cell = tuple[str, str]
"""Side ("right" or "wrong") and pooled rule."""


def rows_of(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows whose responses pass the filters of `mpo prefs pair`."""
    filters = PairingRules().filters
    for row in prepared(name, folder):
        if no_response(row) is None and first_failed(row, filters) is None:
            yield row


def verdicts(row: dict[str, Any], question: Question) -> Iterator[Verdict]:
    """The verdict on a response, and the one against the right option's text alone if it gives an option's text.

    A text beside another option's letter tells nothing, since the published verdict is on the letter.
    """
    whole = check(row["response"], question)
    yield whole
    texts = [choice.strip().lower() for choice in question.choices]
    gold = gold_choice(question)
    if gold is None or whole.rule.endswith("letter against text") or not all(len(text) > 2 for text in texts):
        return
    alone = check(row["response"], question_of({"question": "", "answer": question.choices[gold]}))
    if any(text in alone.extraction.lower() for text in texts) and not alone.rule.endswith(("letter", "text")):
        yield alone
    if all(LIST.fullmatch(text) for text in texts):
        listed = check(row["response"], Question(Kind.LIST, f"[{question.choices[gold]}]"))
        if any(text in listed.extraction.lower() for text in texts):
            yield listed


def count(name: str, folder: Path, agreed: Counter[Cell], total: Counter[Cell]) -> None:
    """Adds a benchmark's counts."""
    for row in rows_of(name, folder):
        for verdict in verdicts(row, question_of(row)):
            if verdict.correct is None or (verdict.correct and name == "mathvision"):
                continue
            cell = ("right" if verdict.correct else "wrong", pooled(verdict.rule))
            total[cell] += 1
            agreed[cell] += verdict.correct is row["known_verdict"]


def is_trusted(agreed: int, total: int, wanted: float) -> bool:
    """Whether a rule's errors are no more than a rule that is right in the wanted share may make by chance."""
    fewer = sum(
        math.comb(total, errors) * (1 - wanted) ** errors * wanted ** (total - errors)
        for errors in range(total - agreed)
    )
    return 1 - fewer > BY_CHANCE


def threshold(cells: list[Cell], agreed: Counter[Cell], total: Counter[Cell], wanted: float) -> float:
    """The least confidence that no distrusted rule has or exceeds."""
    counts = as_counts(agreed, total)
    found: dict[bool, list[float]] = {True: [], False: []}
    for side, rule in cells:
        trusted = is_trusted(agreed[side, rule], total[side, rule], wanted)
        found[trusted].append(confidence_from(counts, rule, side))
    return min(value for value in found[True] if value > max(found[False], default=0.0))


def as_counts(agreed: Counter[Cell], total: Counter[Cell]) -> dict[str, dict[str, list[int]]]:
    """The counts by side and rule."""
    found: dict[str, dict[str, list[int]]] = {"right": {}, "wrong": {}}
    for side, rule in sorted(total):
        found[side][rule] = [agreed[side, rule], total[side, rule]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in NAMES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    agreed: Counter[Cell] = Counter()
    total: Counter[Cell] = Counter()
    for name in NAMES:
        if (folder := getattr(options, name)) is not None:
            count(name, folder, agreed, total)
    counts = as_counts(agreed, total)
    print(f"\n{'rule':<40}{'right':>22}{'wrong':>22}")
    for rule in sorted({rule for _, rule in total}):
        cells = []
        for side in ("right", "wrong"):
            share = f"{agreed[side, rule]}/{total[side, rule]} {confidence_from(counts, rule, side):.4f}"
            cells.append(share if total[side, rule] else "")
        print(f"{rule:<40}{cells[0]:>22}{cells[1]:>22}")
    announced = [cell for cell in total if cell[1].startswith("announced/")]
    unformed = [cell for cell in total if cell[0] == "wrong" and cell not in announced]
    thresholds = {
        "announced": threshold(announced, agreed, total, ANNOUNCED),
        "without an announcement": threshold(unformed, agreed, total, REJECTED),
    }
    for name, cells in (("announced", announced), ("without an announcement", unformed)):
        used = [cell for cell in cells if confidence_from(counts, cell[1], cell[0]) >= thresholds[name]]
        for side in ("right", "wrong"):
            right, every = (sum(count[cell] for cell in used if cell[0] == side) for count in (agreed, total))
            if every:
                print(
                    f"{name}, confidence {thresholds[name]} and above: {side} {right} of {every}, {right / every:.2%}"
                )
    if options.write:
        stored = {"made by": "benchmarks/calibrate.py", "thresholds": thresholds, "counts": counts}
        options.write.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
