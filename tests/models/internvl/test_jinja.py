"""The chat template of an exported folder gives the prompt that is trained, wherever images stand."""

import dataclasses
from functools import cache
from io import BytesIO
from itertools import product
from typing import Any

import pytest
from PIL import Image
from transformers import AutoTokenizer

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.data.shards.sample import tokenizer_folder
from mpo_lightning.inference.request import content_of
from mpo_lightning.models.internvl.jinja import jinja_of
from mpo_lightning.models.internvl.templates import TEMPLATES

PIECES = ("", "What?", " What? ", "\nWhat?\n", "\n", "  ")


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (20, 10)).save(file, "PNG")
    return file.getvalue()


@cache
def tokenizer() -> Any:
    found = AutoTokenizer.from_pretrained(str(tokenizer_folder()), local_files_only=True)
    found.bos_token = "<s>"
    return found


def rendered(template: ChatTemplate, content: Any, bos: bool = False, answer: str | None = None) -> str:
    """What a server makes of a message, and of an answer that goes on."""
    parts = content
    if isinstance(content, list):  # servers give templates an image without its data
        parts = [part if part["type"] == "text" else {"type": "image"} for part in content]
    turns = [{"role": "user", "content": parts}] + ([{"role": "assistant", "content": answer}] if answer else [])
    text = jinja_of(template, IMAGE_MARK, bos)
    options: dict[str, Any] = {"continue_final_message": True} if answer else {"add_generation_prompt": True}
    return str(tokenizer().apply_chat_template(turns, chat_template=text, tokenize=False, **options))


@pytest.mark.parametrize("name", TEMPLATES)
def test_marks_anywhere(name: str) -> None:
    template = TEMPLATES[name]
    for pieces in product(PIECES, repeat=3):
        prompt = Prompt(question=IMAGE_MARK.join(pieces), images=(png(), png()))
        assert rendered(template, content_of(prompt, None)) == template.prompt(prompt.question)


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_other_messages_and_bos(name: str) -> None:
    for template in (TEMPLATES[name], TEMPLATES[name].with_system(""), TEMPLATES[name].with_system("Be {{ brief }}\n")):
        for text in PIECES:
            for content in (text, [{"type": "text", "text": text}]):
                assert rendered(template, content) == template.prompt(text)
        assert rendered(template, "Hm?", bos=True) == "<s>" + template.prompt("Hm?")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_begun_answer_keeps_its_white_space(name: str) -> None:
    template = TEMPLATES[name]
    for begun in ("First, ", "First,\n\n", "First"):
        assert rendered(template, "Why?", answer=begun) == template.prompt("Why?") + template.begun(begun)


def test_an_image_without_a_newline_gets_one() -> None:
    """What other programs send: an image and a bare question, and several images."""
    image, text = {"type": "image_url"}, {"type": "text", "text": "Which?"}
    template = dataclasses.replace(TEMPLATES["Hermes-2"], system="")
    mark = IMAGE_MARK
    assert rendered(template, [image, text]) == template.prompt(f"{mark}\nWhich?")
    assert rendered(template, [image, image, text]) == template.prompt(f"{mark}\n{mark}\nWhich?")
    assert rendered(template, [text, image]) == template.prompt(f"Which?{mark}")
