"""Prompts of the paper's evaluation, word for word.

Source of the prompt for reasoning: InternVL internvl_chat/eval (mathvista, pope, scienceqa) and VLMEvalKit
vlmeval/vlm/internvl/utils.py.
"""

REASONING = (
    "Your task is to answer the question below. Give step by step reasoning before you answer, and when you're ready "
    "to answer, please use the format "
    '"Final answer: .."\n\nQuestion:\n\n{question}'
)
LETTER = "Answer with the option's letter from the given choices directly."
WORD = "Answer the question using a single word or phrase."


def with_reasoning(question: str) -> str:
    """Returns a question's prompt for reasoning first and "Final answer: .." at the end."""
    return REASONING.replace("{question}", question)


def lettered(choices: list[str], mark: str = "{letter}. {text}") -> str:
    """Returns the options with their letters, one a line."""
    return "\n".join(mark.format(letter=chr(ord("A") + place), text=choice) for place, choice in enumerate(choices))
