"""Conversations of several turns, as the reference renders them; pairs have one."""

from collections.abc import Sequence

from mpo_lightning.data.chat_template import ChatTemplate


def turn_texts(template: ChatTemplate, turns: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    """(text, whether it is trained) pieces of (question, answer) turns."""
    pieces = []
    for number, (question, answer) in enumerate(turns):
        prompt = template.prompt(question)
        pieces += [
            (template.after_end + prompt.removeprefix(template.head) if number else prompt, False),
            (template.answer(answer), True),
        ]
    return pieces + ([(template.after_end, False)] if template.after_end else [])
