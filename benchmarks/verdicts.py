"""Measures how often the verdicts that make pairs are right, on recorded responses with published verdicts.

    python benchmarks/verdicts.py --mathvista FOLDER [--m3cot FOLDER] [--mathvision FOLDER] [--json FILE]

A folder holds BENCHMARK_responses.jsonl, and BENCHMARK_testmini_problems.jsonl if the questions' texts are known. The
rows go through `mpo prefs pair` itself: the type of question from answer and options, all filters, verdict, outcome.
The published verdict (`official_true_false` or `official_correct`) is passed along as `known_verdict`.

- "chosen is right": of the responses with the outcome `right`, the share that is published as right.
- "rejected is wrong": of those with the outcome `wrong` or `no_form`, the share that is published as wrong; then the
  same for each of the two.

- "right and used": of the responses that are published as right and announce an answer, the share with that outcome.

Left out: verdicts that the benchmark snapped to the nearest choice, labels marked as suspect, and faults of labels: a
response ends with an option's letter and its literal text, and is published as the opposite of what that option is.

M3CoT's recordings end with "</s>", which the recorder added and not the model; it is removed, since the filter for
special tokens would skip every such row. The prompts of these recordings did not ask for "Final answer: ..", so
`no_form` is far more frequent than in the pipeline. MATH-Vision's own rule refuses right answers with units or with an
option's text ("20 \\text{ m}"), so its "chosen is right" is a lower bound.
"""

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mpo_lightning.answers import Question  # noqa: E402
from mpo_lightning.answers.question import question_of  # noqa: E402
from mpo_lightning.answers.response.extract import announced, clean  # noqa: E402
from mpo_lightning.answers.verdicts.choice import gold_choice  # noqa: E402
from mpo_lightning.evals.files import read_rows  # noqa: E402
from mpo_lightning.prefs.options import PairingRules  # noqa: E402
from mpo_lightning.prefs.pair import Counts, make_pairs  # noqa: E402
from mpo_lightning.prefs.verdicts.verify import CONFIDENT, Outcome, verify  # noqa: E402

NAMES = ("mathvista", "m3cot", "mathvision")


def label_fault(row: dict[str, Any], question: Question) -> bool:
    """Whether a response ends with an option, letter and literal text, and the published verdict contradicts it."""
    gold = gold_choice(question)
    for place, choice in enumerate(question.choices):
        ending = rf"(?:answer is|answer:)\s*\(?{chr(ord('A') + place)}[).:]\s*{re.escape(choice.strip())}\W*$"
        if re.search(ending, row["response"], re.IGNORECASE):
            return gold is not None and (place == gold) is not row["known_verdict"]
    return False


def prepared(name: str, folder: Path) -> list[dict[str, Any]]:
    """Recorded responses in the form of `mpo prefs sample`, each as a question of its own.

    Args:
        name: name of the benchmark.
        folder: folder of its files.
    """
    problems = folder / f"{name}_testmini_problems.jsonl"
    texts = (
        {str(row.get("pid", row.get("id"))): row["question"] for row in read_rows(problems)}
        if problems.is_file()
        else {}
    )
    rows = []
    for number, row in enumerate(read_rows(folder / f"{name}_responses.jsonl")):
        known = row.get("official_true_false", row.get("official_correct"))
        if not isinstance(known, bool) or row.get("nearest_choice_fallback") or row.get("label_suspect"):
            continue
        rows.append(
            {
                "id": f"{name}-{number:08d}",
                "source": name,
                "question": texts.get(str(row.get("pid", row.get("id"))), ""),
                "answer": row["answer"],
                "choices": row.get("choices") or row.get("options"),
                "precision": row.get("precision"),
                "kind": "plain",
                "known_verdict": known,
                "response": (row["response"] or "").removesuffix("</s>").rstrip(),
                "finished": True,
            }
        )
    return [row for row in rows if not label_fault(row, question_of(row))]


def measured(rows: list[dict[str, Any]], confident: float) -> Counts:
    """What `mpo prefs pair` counts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "responses.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (counts,) = make_pairs(path, Path(folder) / "pairs", PairingRules(confidence=confident), 1).values()
    return counts


def right_and_used(rows: list[dict[str, Any]], stated: list[str], confident: float) -> float:
    """The share of the responses that announce an answer and are right whose outcome is right, filters apart."""
    by_id = {row["id"]: row for row in rows}
    found = [verify(by_id[name]["response"], question_of(by_id[name]), confident) for name in stated]
    return sum(one.outcome is Outcome.RIGHT for one in found) / max(1, len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in NAMES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    columns = {
        "right": "chosen is right",
        "rejected": "rejected is wrong",
        "wrong": "wrong answer",
        "no_form": "no form",
    }
    print(
        f"{'benchmark':<12}{'confidence':>11}"
        + "".join(f"{title:>20}" for title in columns.values())
        + f"{'undecided':>11}{'right and used':>18}"
    )
    for name in NAMES:
        if getattr(options, name) is None:
            continue
        rows = prepared(name, getattr(options, name))
        stated = [row["id"] for row in rows if row["known_verdict"] and announced(clean(row["response"])) is not None]
        for least in (0.0, CONFIDENT):
            counts = measured(rows, least)
            numbers, shares = counts.numbers, counts.precision()
            totals = {outcome: numbers[outcome] for outcome in ("right", "wrong", "no_form")}
            totals["rejected"] = totals["wrong"] + totals["no_form"]
            cells = [f"{shares.get(outcome, 0.0):.2%} of {totals[outcome]:,}" for outcome in columns]
            used = f"{right_and_used(rows, stated, least):.1%} of {len(stated)}"
            undecided = numbers["undecided"] + numbers["right_without_form"]
            print(
                f"{name:<12}{least or 'any':>11}"
                + "".join(f"{cell:>20}" for cell in cells)
                + f"{undecided:>11,}{used:>18}"
            )
            results.append(
                {
                    "benchmark": name,
                    "confidence": least,
                    "precision": shares,
                    "responses": totals,
                    "right and used": used,
                    "numbers": dict(numbers),
                }
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
