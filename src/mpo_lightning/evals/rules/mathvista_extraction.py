"""MathVista's official first step for direct answers: a language model extracts the short answer of a response.

It is asked only if earlier rules find nothing (a row's own extraction, an empty response, an option, a number). The
chat has five worked examples, then the question, the response and "Extracted answer: ". An empty reply is asked for
again, ten times in all.

Source: lupantech/MathVista evaluation/extract_answer.py and prompts/ext_ans.py; the examples are our own, of the same
structure.
"""

from collections.abc import Mapping
from typing import Any, cast

from mpo_lightning.evals.benchmark import Judge

EXAMPLES = """Please read the following examples, then extract the answer from the model response and type it at the end of the prompt.

Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end.
Question: How many apples are on the table?

Model response: On the left I see four apples, and on the right three more. In all there are 7 apples.

Extracted answer: 7

Hint: Please answer the question requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4, at the end.
Question: What share of the tiles is blue?

Model response: Of ten tiles, four are blue, which is a share of 0.4.

Extracted answer: 0.4

Hint: Please answer the question requiring a floating-point number with two decimal places and provide the final value, e.g., 1.23, 1.34, 1.45, at the end.
Question: How far does the cyclist ride in an hour? (Unit: km)

Model response: She rides 24.75 km in one and a half hours, so she rides about 16.50 km in an hour.

Extracted answer: 16.50

Hint: Please answer the question requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end.
Question: Which two numbers are on the doors?

Model response: The door on the left has the number 12, that on the right the number 15.

Extracted answer: [12, 15]

Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.
Question: Which bar is the tallest?
Choices:
(A) red
(B) grey
(C) green

Model response: The second bar, the grey one, reaches highest, therefore the right choice is (B).

Extracted answer: B"""


def messages(row: Mapping[str, Any], response: str, tries: int) -> list[dict[str, str]]:
    """Returns the chat, one turn."""
    question = row.get("query") or row.get("question") or ""
    return [{"role": "user", "content": f"{EXAMPLES}\n\n{question}\n\n{response}\n\nExtracted answer: "}]


def read(reply: str) -> tuple[float, ...] | None:
    """Accepts any reply that is not empty; its text is the extraction."""
    return cast(tuple[float, ...], ()) if reply.strip() else None


EXTRACTOR: Judge[Any] = Judge(
    messages, read, temperature=lambda tries: 0.0, max_tokens=256, tries=10, otherwise=(), model="gpt-4-0613"
)
