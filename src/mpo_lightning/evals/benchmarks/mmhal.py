"""MMHal-Bench: 96 questions of eight kinds. A judge reads the image's contents and rates responses from 0 to 6.

The score is the mean rating, the hallucination rate the share of ratings below 3. A reply without exactly one
"Rating: n" counts 0.

Source: InternVL internvl_chat/eval/mmhal/{evaluate_mmhal,eval_gpt_mmhal}.py; the judge's instruction and examples here
are our own, of the same structure.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from mpo_lightning.evals.benchmark import Benchmark, Judge, Mode, Score, Table, TableRow
from mpo_lightning.evals.files import find_file, read_rows
from mpo_lightning.evals.rules.judged import judged_score, replies_of

WHERE = "https://huggingface.co/datasets/Shengcao1006/MMHal-Bench (response_template.json and images/)"
KINDS = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
RATIONALE = (
    "\n\nPlease think step by step and output in the following format:\n\nRationale:\n{rationale}\nAnswer: "
    "{answer}\n\nwhere rationale is the reasoning process of "
    "the given question."
)
INSTRUCTION = """You are a fair and neutral judge of what a large multimodal model (LMM) answered to a question about a picture. Two things matter: whether \
the response is informative, and whether it holds a hallucination, which is anything it says that neither the picture nor the conversation shows or implies, \
such as a false claim about an object, an action, a feeling or any other detail.

Some examples:

### Example 1:
- Image Contents: Duck, Bird
- Question: How many ducks swim on the pond?
- Standard Human-Generated Answer: Three ducks swim on the pond.
- LMM Response to Evaluate: There are two ducks on the pond.
- Analysis: The response is false; it counts two ducks where there are three.
- Hallucination: Yes.

### Example 2:
- Image Contents: Tree, Koala, Animal
- Question: What does this photo show?
- Standard Human-Generated Answer: A koala sits in a tree. The background is out of focus.
- LMM Response to Evaluate: A grey koala rests in the fork of a eucalyptus tree, an animal that is known for its long hours of sleep.
- Analysis: Nothing in the response is false; what it adds about koalas in general is true, and it claims nothing that the picture does not show.
- Hallucination: No.

### Example 3:
- Image Contents: Bicycle, Wheel, Man
- Question: Describe the picture in detail.
- Standard Human-Generated Answer: A man pushes a red bicycle along an empty road. There are hills in the background.
- LMM Response to Evaluate: A man pushes his red bicycle along a quiet road below green hills. Two other cyclists follow him at a distance.
- Analysis: The response is false; there are no other cyclists in the picture.
- Hallucination: Yes.

### Example 4:
- Image Contents: Building, Window, Person
- Question: In which city was this photo taken?
- Standard Human-Generated Answer: The words "Welcome to Lisbon" say that it was taken in Lisbon.
- LMM Response to Evaluate: The photo shows a city street with old buildings; which city it is cannot be told from the picture alone.
- Analysis: The response does not name the city, but it claims nothing false. Not answering, being unsure or leaving out details is no hallucination.
- Hallucination: No.

### Example 5:
- Image Contents: River, Bottle
- Question: Which problem does this photo point to?
- Standard Human-Generated Answer: Plastic bottles float in the river. They harm animals.
- LMM Response to Evaluate: The bottles in the river point to plastic pollution: plastic breaks into small pieces that fish swallow, it reaches people \
through food and water, and it costs a lot to remove; collecting deposits and better bins would help.
- Analysis: The response is much longer than the standard answer, but all that it adds can be concluded from the picture. Such reasoning is welcome as long \
as nothing in it is false.
- Hallucination: No.

Now evaluate the response below in the same way, by comparing it with the image contents, the question and the standard human-generated answer. That answer \
may hold only facts and no analysis, and may not name every object or attribute in the picture, so be careful before you call something a hallucination. \
Detailed analysis or reasoning is to be encouraged.

Begin with a short explanation. Then rate the response with one of these options:
- Rating: 6, very informative with good analysis or reasoning, no hallucination
- Rating: 5, very informative, no hallucination
- Rating: 4, somewhat informative, no hallucination
- Rating: 3, not informative, no hallucination
- Rating: 2, very informative, with hallucination
- Rating: 1, somewhat informative, with hallucination
- Rating: 0, not informative, with hallucination
"""


class MMHalRow(TypedDict, total=False):
    """A question."""

    id: str
    kind: str
    question_type: str
    question: Required[str]
    image_content: Required[list[str] | str]
    gt_answer: Required[str]


def load(folder: Path) -> list[MMHalRow]:
    """Reads the questions of response_template.json; a row's number is its id and decides its kind."""
    rows = read_rows(find_file(folder, ("response_template.json", "mmhal.json", "mmhal-bench.jsonl"), WHERE))
    return [
        row
        | {
            "id": str(place),
            "kind": KINDS[place % len(KINDS)],
            "image": row.get("image") or f"images/{str(row.get('image_src', '')).rsplit('/', 1)[-1]}",
        }
        for place, row in enumerate(rows)
    ]


def question(row: MMHalRow, cot: bool) -> str:
    """Returns the question alone, or (`cot`) with the evaluation's own prompt for reasoning."""
    return f"{row['question']}{RATIONALE}" if cot else str(row["question"])


def messages(row: MMHalRow, response: str, tries: int) -> list[dict[str, str]]:
    """Returns the judge's chat, one turn: instruction with examples, contents, question, reference, response.

    Of a response with reasoning the judge sees the text after "Answer:".
    """
    if "Rationale:" in response:
        response = response.split("Answer:")[-1].strip()
    contents = ", ".join(row["image_content"]) if isinstance(row["image_content"], list) else str(row["image_content"])
    parts = {
        "Image Contents": contents,
        "Question": row["question"],
        "Standard Human-Generated Answer": row["gt_answer"],
        "LMM Response to Evaluate": response,
    }
    return [
        {"role": "user", "content": INSTRUCTION + "".join(f"\n### {name}\n{text}\n" for name, text in parts.items())}
    ]


def read(reply: str) -> tuple[float] | None:
    """Reads the rating in a reply; None unless there is exactly one."""
    plain = re.sub(r"rating\s*:\s*", "rating: ", reply.lower().replace("*", ""))
    found = [points for points in range(7) if f"rating: {points}" in plain]
    return (float(found[0]),) if len(found) == 1 else None


def score(row: MMHalRow, response: str, mode: Mode) -> Score:
    """Scores a response by the reply in its row."""
    return judged_score(JUDGE, replies_of(row, ("judge_raw", "judge"), f"row {row.get('id')}")[:1])


def table(rows: Sequence[MMHalRow], values: Any) -> Table:
    """Makes the table: mean rating, hallucination rate in percent, mean rating of each kind."""
    ratings = [float(value[0]) for value in values]
    total = len(ratings)
    mean = sum(ratings) / total if total else 0.0
    kinds: dict[str, list[float]] = {}
    for row, rating in zip(rows, ratings, strict=True):
        kinds.setdefault(str(row.get("kind", row.get("question_type", "other"))), []).append(rating)
    hallucinated = float(sum(rating < 3 for rating in ratings))
    lines = [
        TableRow("", "score", mean, None, total=total),
        TableRow("", "hallucination rate", 100 * hallucinated / total if total else 0.0, hallucinated, total=total),
    ]
    lines += [TableRow("kind", kind, sum(found) / len(found), None, total=len(found)) for kind, found in kinds.items()]
    return Table("score", mean, tuple(lines))


JUDGE = Judge(messages, read, temperature=lambda tries: 0.0, max_tokens=1024, tries=1, otherwise=(0.0,), model="gpt-4o")
BENCHMARK = Benchmark(
    name="mmhal",
    title="MMHal-Bench",
    id_field="id",
    load=load,
    question=question,
    score=score,
    table=table,
    max_new_tokens=(1024, 4096),
    where=WHERE,
    needed=(),
    judge=JUDGE,
    decimals=2,
    compared="rating, 0 to 6",
)
