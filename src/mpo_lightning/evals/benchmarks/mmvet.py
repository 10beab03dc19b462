"""MM-Vet: 218 open questions; a judge gives 0.0 to 1.0; means by capability and by combination of capabilities.

The prompt is the question without any suffix. Runs of the judge are averaged, and the table shows their spread. An
unreadable reply is asked for again with a hint and a higher temperature, five times in all, and then counts 0.

Source: yuweihao/MM-Vet mm-vet_evaluator.py; the judge's instruction and examples here are our own, of the same
structure.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict, cast

from mpo_lightning.evals.benchmark import Benchmark, Judge, Mode, Score, Table, TableRow
from mpo_lightning.evals.files import find_file, read_rows
from mpo_lightning.evals.rules.judged import judged_score, replies_of

WHERE = "https://github.com/yuweihao/MM-Vet (mm-vet.zip: mm-vet.json and images/)"
TRIES = 5
INSTRUCTION = """Grade how correct the prediction of an AI model is, given the question and its ground truth. Where the ground truth joins parts with <AND>, a \
prediction is totally right only with all of them; where it joins them with <OR>, any one of them is enough. The grade is one of 0.0 (totally wrong), 0.1, \
0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9 and 1.0 (totally right). Fill in only the last cell, the correctness.

Question | Ground truth | Prediction | Correctness
--- | --- | --- | ---
Which values solve the equation? | 2 <AND> -7 | x is 4 | 0.0
Which values solve the equation? | 2 <AND> -7 | x is 2 | 0.5
Which values solve the equation? | 2 <AND> -7 | x is -7 | 0.5
Which values solve the equation? | 2 <AND> -7 | x is 2 or 7 | 0.5
Which values solve the equation? | 2 <AND> -7 | x is -7 or x is 2 | 1.0
Why is the sign funny? | The sign warns of invisible dangers, yet shows a picture of one, which nobody could have seen. The joke is that it contradicts itself. | \
The sign shows a picture of a danger that it calls invisible. | 0.4
Why is the sign funny? | The sign warns of invisible dangers, yet shows a picture of one, which nobody could have seen. The joke is that it contradicts itself. | \
It is funny because it contradicts itself: what is invisible cannot be drawn, and still the sign shows it, as if somebody had seen the danger. | 1.0
"""
POINTS = re.compile(
    r"[\s*`\"]*(?:(?:score|correctness|grade|rating)[\s*:=]*)?(-?\d+(?:\.\d+)?)(?![\w%/]|\.\d)", re.IGNORECASE
)
AGAIN = "\nThe correctness as a number, nothing else: "


class MMVetRow(TypedDict, total=False):
    """A question."""

    id: str
    question: Required[str]
    answer: Required[str]
    capability: list[str] | None


def load(folder: Path) -> list[MMVetRow]:
    """Reads the questions of mm-vet.json."""
    rows = read_rows(find_file(folder, ("mm-vet.json", "mmvet.json", "mmvet.jsonl"), WHERE))
    found = [
        {
            "id": row.get("id", row.get("key")),
            "image": f"images/{row['imagename']}" if "imagename" in row else row.get("image"),
        }
        | {name: value for name, value in row.items() if name != "key"}
        for row in rows
    ]
    return cast(list[MMVetRow], found)


def question(row: MMVetRow, cot: bool) -> str:
    """Returns the question alone, even with `cot`: the paper's evaluation never asked for reasoning."""
    return str(row["question"])


def messages(row: MMVetRow, response: str, tries: int) -> list[dict[str, str]]:
    """Returns the judge's chat, one turn: the instruction with examples, and the line that the judge completes."""
    gold = str(row["answer"]).replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    line = " | ".join([str(row["question"]), gold, response, ""])
    return [{"role": "user", "content": f"{INSTRUCTION}\n{line}{AGAIN if tries else ''}"}]


def read(reply: str) -> tuple[float] | None:
    """Reads the number at the start of a reply, from 0 to 1; None if there is none.

    The benchmark's own script takes the first word alone. Bold marks and a label ("Score: 0.8", "**1.0**") are read as
    well, instead of asking again.
    """
    found = POINTS.match(reply)
    return (points,) if found and 0.0 <= (points := float(found[1])) <= 1.0 else None


def score(row: MMVetRow, response: str, mode: Mode) -> Score:
    """Scores a response by the replies in its row."""
    return judged_score(JUDGE, replies_of(row, ("judge_raw", "judge"), f"row {row.get('id')}"))


def table(rows: Sequence[MMVetRow], values: Any) -> Table:
    """Makes the table of points x 100: total, spread over runs, each run, capability and combination."""
    parts: dict[tuple[str, str], list[Sequence[float]]] = {}
    for row, runs in zip(rows, values, strict=True):
        capabilities = sorted(row.get("capability") or [])
        for key in [
            ("", "total"),
            *(("capability", name) for name in capabilities),
            ("integration", "_".join(capabilities)),
        ]:
            parts.setdefault(key, []).append(runs)

    def runs_of(found: list[Sequence[float]]) -> list[float]:
        return [100 * sum(float(runs[run]) for runs in found) / len(found) for run in range(len(found[0]))]

    totals = runs_of(parts[("", "total")]) if parts else [0.0]
    mean = sum(totals) / len(totals)
    spread = math.sqrt(sum((total - mean) ** 2 for total in totals) / len(totals))
    lines = [TableRow("", "total", mean, None, total=len(rows)), TableRow("", "std", spread, None, total=len(rows))]
    lines += [TableRow("run", str(run + 1), total, None, total=len(rows)) for run, total in enumerate(totals)]
    for group in ("capability", "integration"):
        found = [
            TableRow(group, name, sum(runs_of(rows_)) / len(totals), None, total=len(rows_))
            for (kind, name), rows_ in parts.items()
            if kind == group
        ]
        lines += sorted(found, key=lambda line: (-line.total, line.name))
    return Table("total", mean, tuple(lines))


JUDGE = Judge(
    messages,
    read,
    temperature=lambda tries: 0.5 * max(0, tries - 1),
    max_tokens=3,
    tries=TRIES,
    otherwise=(0.0,),
    model="gpt-4-0613",
)
BENCHMARK = Benchmark(
    name="mmvet",
    title="MM-Vet",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(1000, 4096),
    where=WHERE,
    needed=(),
    judge=JUDGE,
    decimals=1,
    compared="points, 0 to 1",
)
