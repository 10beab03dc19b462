"""How often the verdicts that make pairs are right, on recorded responses with published verdicts.

    python benchmarks/verdicts.py --mathvista RESPONSES.jsonl [--m3cot RESPONSES.jsonl] [--mathvision RESPONSES.jsonl] [--json FILE]

Rows are those of docs/evals.md with the published verdict (`official_true_false` or `official_correct`). Left out: empty responses, verdicts that were snapped to the nearest
choice, labels marked as suspect, and, as in the pipeline, responses that go on with a question of their own. "chosen is right": of the responses that the checker calls right, the share that is published as right;
"rejected is wrong" likewise. MATH-Vision's own rule refuses right answers with units or with an option's text ("20 \\text{ m}"), so its "chosen is right" is a lower bound.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mpo_lightning.evals.files import read_rows  # noqa: E402
from mpo_lightning.evals.registry import BENCHMARKS  # noqa: E402
from mpo_lightning.prefs.filters import run_on  # noqa: E402
from mpo_lightning.prefs.verify import CONFIDENT  # noqa: E402

VERDICTS = ("official_true_false", "official_correct")


def judged(name: str, path: Path) -> list[tuple[bool, bool, float]]:
    """(ours, published, confidence) of each response that is decided."""
    found = []
    for row in read_rows(path):
        published = next((row[field] for field in VERDICTS if isinstance(row.get(field), bool)), None)
        response = row.get("response")
        if published is None or not response or row.get("nearest_choice_fallback") or row.get("label_suspect") or run_on(row):
            continue
        verdict = BENCHMARKS[name].score(row, response, "robust").verdict
        if verdict.correct is not None:
            found.append((verdict.correct, published, verdict.confidence))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mathvista", "m3cot", "mathvision"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    print(f"{'benchmark':<12}{'confidence':>12}{'chosen is right':>24}{'rejected is wrong':>24}")
    for name in ("mathvista", "m3cot", "mathvision"):
        if getattr(options, name) is None:
            continue
        found = judged(name, getattr(options, name))
        for least in (0.0, CONFIDENT):
            sides = {
                ours: [ours is published for mine, published, sure in found if mine is ours and sure >= least]
                for ours in (True, False)
            }
            shares = {ours: sum(agree) / len(agree) if agree else 0.0 for ours, agree in sides.items()}
            cells = [f"{shares[ours]:.2%} of {len(sides[ours]):,}" for ours in (True, False)]
            print(f"{name:<12}{'any' if not least else f'{least:g}':>12}{cells[0]:>24}{cells[1]:>24}")
            results.append({"benchmark": name, "confidence": least, "chosen_is_right": shares[True], "rejected_is_wrong": shares[False],
                            "right": len(sides[True]), "wrong": len(sides[False])})  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
