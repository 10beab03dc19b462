"""The chat template of an exported folder in Jinja: whoever applies it gets the prompt that was trained.

A message's content is a text, or a list of texts and images in order. Where the text behind an image begins with white
space or is empty, it stands as it is, so that a question with marks in any place can be sent exactly. Otherwise, and
between two images, a newline follows the image, as InternVL's own code writes it.
"""

from mpo_lightning.data.chat_template import ChatTemplate

NEWLINE = (
    "{% if loop.nextitem is defined and (loop.nextitem['type'] == 'image' or (loop.nextitem['text'] and "
    "loop.nextitem['text'] == loop.nextitem['text'].lstrip())) %}{{ '\\n' }}{% endif %}"
)
"""Behind an image; who applies a template removes a newline that follows a block."""

LSTRIP, RSTRIP = "{% set text = text.lstrip() %}", "{% set text = text.rstrip() %}"


def jinja_of(template: ChatTemplate, image: str, bos: bool = False) -> str:
    """Returns a chat template in Jinja that renders the same prompts.

    A last turn of the assistant may go on, so white space at its end is kept.

    Args:
        template: the template.
        image: text for an image.
        bos: whether the tokenizer puts a token before every text; who applies a chat template leaves it out.
    """
    whole = part = ""
    if template.strip:
        stripped = "{{% if message['role'] != 'system' %}}{}{{% endif %}}"
        whole = stripped.format(f"{LSTRIP}{{% if not begun %}}{RSTRIP}{{% endif %}}")
        part = stripped.format(
            f"{{% if loop.first %}}{LSTRIP}{{% endif %}}{{% if loop.last and not begun %}}{RSTRIP}{{% endif %}}"
        )
    return "".join(
        (
            "{{ bos_token }}" if bos else "",
            "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}",
            f"{{{{ {_literal(template.head)} }}}}{{% endif %}}",
            "{% set begun = loop.last and message['role'] == 'assistant' %}" if template.strip else "",
            f"{{% if message['role'] == 'system' %}}{template.system_prefix}",
            f"{{% elif message['role'] == 'user' %}}{template.user_prefix}",
            f"{{% else %}}{template.assistant_prefix}{template.answer_prefix}{{% endif %}}",
            f"{{% if message['content'] is string %}}{{% set text = message['content'] %}}{whole}{{{{ text }}}}",
            f"{{% else %}}{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{image}{NEWLINE}",
            f"{{% else %}}{{% set text = part['text'] %}}{part}{{{{ text }}}}{{% endif %}}{{% endfor %}}{{% endif %}}",
            f"{template.end}{template.after_end}{{% endfor %}}",
            f"{{% if add_generation_prompt %}}{template.assistant_prefix}{{% endif %}}",
        )
    )


def _literal(text: str) -> str:
    """Returns a text as a string of Jinja, in which marks of Jinja mean nothing."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
