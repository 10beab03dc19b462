"""Measures how fast and how right answers are checked, beside math-verify and the rule of the reference code.

    python benchmarks/answers.py [--seconds 3] [--mathvista RESPONSES.jsonl] [--equality PAIRS.jsonl] [--json FILE]

- Speed: short answers of the plain types (an option, a whole number, a decimal), generated with a fixed seed, all
  different, on one core.
- Agreement, with --mathvista: responses in the format of docs/evals.md whose rows also have `official_true_false`, the
  published verdict. Rows whose verdict was snapped to the nearest choice, and empty responses, are noise and left out.
- Equality, with --equality: pairs of other projects' tests, each with the decision that its suite wants. math-verify
  parses the text as it is.

Peers:

- "MMPR's rule", which built the data set;
- "prefetch", what VLMEvalKit does before it asks a language model;
- math-verify (pip install "math-verify[antlr4_13_2]"), whose `parse` and `verify` get the gold answer or its letter;
- "quick rule", what InternVL's evaluation does for reasoned responses without a language model: the text behind the
  first "Final answer:" or "Answer:", one line, then an option's letter as the first character, or a number
  (internvl_chat/eval/mathvista/extract_answer.py, scienceqa/evaluate_scienceqa.py).
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from mpo_lightning.answers import Kind, Question, check  # noqa: E402
from mpo_lightning.evals.registry import all_benchmarks  # noqa: E402

Checker = Callable[[str, Question], bool]
KINDS = {"text": Kind.CHOICE, "integer": Kind.INTEGER, "float": Kind.FLOAT, "list": Kind.LIST}


def short_answers(count: int) -> list[tuple[str, Question]]:
    """Answers as models give them to plain questions."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        lead = rng.choice(["", "The answer is ", "Final answer: ", "Answer: ", "So it is "])
        if number % 3 == 0:
            texts = tuple(
                f"{rng.choice(['red', 'cat', 'metal', 'north side'])} {rng.randrange(10**6)}" for _ in range(4)
            )
            found.append(
                (
                    f"{lead}{rng.choice(['{}', '({})', '{}.'])}".format(rng.choice("ABCD")),
                    Question(Kind.CHOICE, rng.choice(texts), texts),
                )
            )
        elif number % 3 == 1:
            found.append((f"{lead}{rng.randrange(10**6):,}", Question(Kind.INTEGER, str(rng.randrange(10**6)))))
        else:
            found.append(
                (f"{lead}{rng.uniform(0, 100):.2f} cm", Question(Kind.FLOAT, f"{rng.uniform(0, 100):.2f}", (), 2))
            )
    return found


def ours(response: str, question: Question) -> bool:
    """`check`; undecided is not right."""
    return check(response, question).correct is True


def quick_rule(response: str, question: Question) -> bool:
    """The reference's rule, written anew from its description above."""
    found = re.search(r"(?:Final answer:|Answer:)\s*(.*)", response, re.IGNORECASE)
    answer = (found[1] if found else response).strip()
    if question.choices:
        bracketed = re.findall(r"\(([A-Z])\)", answer)
        letter = bracketed[0] if bracketed else answer[:1]
        place = ord(letter) - ord("A") if letter else -1
        return 0 <= place < len(question.choices) and question.choices[place] == question.gold
    try:
        return round(float(answer.rstrip(".")), question.precision or 0) == float(question.gold)
    except ValueError:
        return False


def prefetch_rule(response: str, question: Question) -> bool:
    """VLMEvalKit's rule before it asks a language model (utils/matching_util.py, utils/mathvista.py), written anew: the
    only letter that stands alone, else the only option that is contained; else int() or float() of the whole.
    """
    if not question.choices:
        try:
            return float(response) == float(question.gold)
        except ValueError:
            return False
    letters = [chr(ord("A") + place) for place in range(len(question.choices))]
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", response).split()
    alone = [letter for letter in letters if letter in words and not (letter == "A" and len(words) > 3)]
    if len(alone) == 1:
        return question.choices[letters.index(alone[0])] == question.gold
    if alone or len(response) > 2 * sum(map(len, question.choices)):
        return False
    inside = [choice for choice in question.choices if choice.lower() in response.lower()]
    return len(inside) == 1 and inside[0] == question.gold


def mmpr_rule(response: str, question: Question) -> bool:
    """What built MMPR, where a file's name speaks of geometry, written anew: a reasoned response, at most two triggers,
    one line behind the last; equal in letters or, as numbers, within 5 %
    (tools/reasoning_data_pipeline/utils/accuracy_reward.py). Without its call of math-verify, which stands beside it.
    """
    trigger = next((trigger for trigger in ("Final answer:", "Final Answer:", "答案:") if trigger in response), None)
    if trigger is None or response.count(trigger) > 2 or response.count("\n") < 2:
        return False
    said = response.rpartition(trigger)[2].strip()
    if "\n" in said:
        return False
    golds = [question.gold] + (
        ["ABCDEFGH"[question.choices.index(question.gold)]] if question.gold in question.choices else []
    )
    if any(said.strip("*. ").lower() == gold.lower() for gold in golds):
        return True
    try:
        return abs(float(said.rstrip("%")) - float(question.gold)) <= 0.05 * abs(float(question.gold))
    except ValueError:
        return False


def equality(rows: list[dict[str, Any]], rule: Callable[[dict[str, Any]], bool]) -> float:
    """Share of pairs of gold answer and prediction that are decided as in their suite, in percent."""
    return 100 * sum(rule(row) == row["equivalent"] for row in rows) / len(rows)


def our_equality(row: dict[str, Any]) -> bool:
    """The decision of `mpo eval score --benchmark equivalence`."""
    return all_benchmarks()["equivalence"].score(row, row["prediction"], "robust").verdict.correct is True


def math_verify_rule() -> Checker | None:
    """math-verify, if it is installed."""
    try:
        import math_verify
    except ModuleNotFoundError:
        return None

    def rule(response: str, question: Question) -> bool:
        gold = question.gold
        if question.choices:
            letter = chr(ord("A") + question.choices.index(gold)) if gold in question.choices else gold
            targets = [math_verify.StringExtractionConfig()]
            return bool(math_verify.verify(math_verify.parse(letter, targets), math_verify.parse(response, targets)))
        return bool(math_verify.verify(math_verify.parse(f"${gold}$"), math_verify.parse(response)))

    return rule


def rate(checker: Checker, answers: list[tuple[str, Question]], seconds: float) -> float:
    """Answers a second of this process's CPU time, over different answers until the time is up."""
    begun, done = time.process_time(), 0
    for response, question in answers:
        checker(response, question)
        done += 1
        if time.process_time() - begun > seconds:
            break
    return done / (time.process_time() - begun)


def agreement(checker: Checker, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Agreement with published verdicts, in percent."""
    counts = {(right, published): 0 for right in (True, False) for published in (True, False)}
    for row in rows:
        choices = tuple(row["choices"] or ())
        precision = int(row["precision"]) if row["precision"] else None
        kind = Kind.CHOICE if choices else KINDS[row["answer_type"]]
        counts[
            checker(row["response"], Question(kind, row["answer"], choices, precision)), row["official_true_false"]
        ] += 1
    wrong, right = counts[True, False] + counts[False, False], counts[True, True] + counts[False, True]
    return {
        "rows": float(len(rows)),
        "agreement": 100 * (counts[True, True] + counts[False, False]) / len(rows),
        "false positives": 100 * counts[True, False] / max(1, wrong),
        "false negatives": 100 * counts[False, True] / max(1, right),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each checker")
    parser.add_argument("--mathvista", type=Path, help="responses with published verdicts")
    parser.add_argument(
        "--equality",
        type=Path,
        help="pairs of gold and prediction with `equivalent`, as suites of other projects have them",
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    arguments = parser.parse_args()
    checkers: dict[str, Checker] = {
        "ours": ours,
        "quick rule": quick_rule,
        "prefetch": prefetch_rule,
        "MMPR's rule": mmpr_rule,
    }
    if (rule := math_verify_rule()) is not None:
        checkers["math-verify"] = rule
    else:
        print('math-verify is not installed: pip install "math-verify[antlr4_13_2]"')
    answers = short_answers(400_000 if arguments.seconds > 1 else 40_000)
    results: dict[str, dict[str, float]] = {}
    for name, checker in checkers.items():
        results[name] = {"answers a second": rate(checker, answers, arguments.seconds)}
    if arguments.mathvista:
        lines = [json.loads(line) for line in arguments.mathvista.read_text(encoding="utf-8").splitlines()]
        rows = [
            row
            for row in lines
            if row["response"] and not row.get("nearest_choice_fallback") and not row.get("label_suspect")
        ]
        for name, checker in checkers.items():
            results[name] |= agreement(checker, rows)
    if arguments.equality:
        pairs = [json.loads(line) for line in arguments.equality.read_text(encoding="utf-8").splitlines()]
        results["ours"]["equality"] = equality(pairs, our_equality)
        if "math-verify" in checkers:
            import math_verify

            def verified(row: dict[str, Any]) -> bool:
                return bool(math_verify.verify(math_verify.parse(row["gold"]), math_verify.parse(row["prediction"])))

            results["math-verify"]["equality"] = equality(pairs, verified)
    fastest = results["ours"]["answers a second"]
    for name, numbers in results.items():
        told = ", ".join(
            f"{key} {value:,.1f}{' %' if key[0] in 'aef' and key != 'answers a second' else ''}"
            for key, value in numbers.items()
        )
        print(f"{name:<12} {told} (ours is {fastest / numbers['answers a second']:.2f}x as fast)")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
