"""The prompt that a checkpoint folder was trained with: known from its files or asked for, never guessed.

A wrong system message or a missing newline costs many points without a sign. So a folder's sources must agree: the
template and the system message that config.json names, and the chat template that servers and processors apply. If
they do not, or there are none, the user chooses.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import ChatTemplate, PromptChoice
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import get_template
from mpo_lightning.models.internvl.saving import ORIGINAL
from mpo_lightning.models.internvl.templates import (
    NEWLINE_TRAINED,
    OF_TEXT_MODEL,
    TEMPLATES,
    USERS,
    WITH_CHAT_TEMPLATE,
)

SCRIPTS = "OpenGVLab's training scripts"
CHAT = "model.chat"
SERVERS = "the folder's chat template, as vLLM, SGLang, LMDeploy and transformers apply it"

QUESTION = "What is 12 + 7?"


@dataclass(frozen=True)
class Source:
    """A place that says what the prompt is.

    Attributes:
        template: the template with its system message.
        users: who sends this prompt.
        file: the file that says so.
    """

    template: ChatTemplate
    users: str
    file: str


def prompt_format(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
) -> tuple[ChatTemplate, str]:
    """Returns the chat template of a folder, with its system message, and where it comes from.

    Args:
        folder: checkpoint folder, in any layout.
        kind: `model_type` of its language model.
        tokenizer: its tokenizer.
        choice: what the options say.

    Raises:
        InputError: the template is unknown, or the sources disagree or say nothing and the options do not decide.
    """
    if choice.template not in ("auto", *TEMPLATES):
        raise InputError(f"unknown chat template '{choice.template}'; known are {', '.join(TEMPLATES)}")
    found, unknown = _sources(folder, kind, tokenizer)
    if unknown and found and "auto" in (choice.template, choice.system_message):
        raise InputError(
            f"{folder}: its {unknown} renders none of the known prompts, so it disagrees with config.json's template "
            f"'{found[0].template.name}'; set the options template and system_message to those that it was trained with"
        )
    where = ", ".join(dict.fromkeys(one.file for one in found))
    if choice.template != "auto":
        named = [one for one in found if one.template.name == choice.template]
        found = named or [Source(TEMPLATES[choice.template], "", "")]
        where = where if named else "the options"
    if not found:
        raise InputError(_nothing_known(folder, kind))
    if choice.system_message != "auto":
        found = [replace(one, template=get_template(one.template.name, choice.system_message)) for one in found]
        where += ", system message from the options" if where != "the options" else ""
    if len({one.template.prompt(QUESTION) for one in found}) > 1:
        raise InputError(_disagree(folder, found))
    template = found[0].template
    if choice.trained_newline and not template.after_end:
        raise InputError(f"trained_newline: the chat template '{template.name}' has no newline behind an answer")
    newline = kind in NEWLINE_TRAINED if choice.trained_newline is None else choice.trained_newline
    return replace(template, trained_newline=newline and bool(template.after_end)), where


def kept_prompt(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
) -> tuple[ChatTemplate, bool]:
    """Returns the template to write into a converted folder, and whether it is certain.

    A conversion does not have to know the prompt. Where it is not certain, the result keeps what the folder's chat
    template says, else the only template that models with this language model have.

    Raises:
        InputError: the options do not decide, or nothing is known and there are several templates.
    """
    try:
        return prompt_format(folder, kind, tokenizer, choice)[0], True
    except InputError:
        if choice != PromptChoice():
            raise
        served = chat_template_source(folder, tokenizer, kind)
        only = OF_TEXT_MODEL.get(kind, ())
        name = _settings(folder).get("template")
        if served is None and name not in TEMPLATES and len(only) != 1:
            raise
        return (served.template if served else TEMPLATES[name] if name in TEMPLATES else only[0]), False


def chat_template_source(
    folder: Path, tokenizer: PreTrainedTokenizerBase, kind: str, name: str | None = None
) -> Source | None:
    """Returns what a folder's chat template says; None if there is none, or it renders no known template.

    Args:
        folder: checkpoint folder, in either layout.
        tokenizer: its tokenizer.
        kind: `model_type` of its language model.
        name: the template to recognise; None takes one that models with this language model have.
    """
    written = next(_written(folder), None)
    if written is None:
        return None
    file, text = written
    known = [TEMPLATES[name]] if name else OF_TEXT_MODEL.get(kind, TEMPLATES.values())
    found = next(_recognised(text, tokenizer, known), None)
    return Source(found, SERVERS, file) if found else None


def _sources(folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Source], str]:
    """Returns the folder's sources, and the file of a chat template that renders no known prompt, else "".

    A converted folder's are those of the download that it was made from, unless its own config settles it.
    """
    download = folder / ORIGINAL
    settled = isinstance(_settings(folder).get("system_message"), str)
    base = download if not settled and (download / "config.json").is_file() else folder
    named = list(_of_config(base))
    if named and named[0].template.name not in WITH_CHAT_TEMPLATE:
        return named, ""
    served = chat_template_source(base, tokenizer, kind, named[0].template.name if named else None)
    if served is None:
        return named, next((file for file, _ in _written(base)), "")
    if len(named) > 1 and named[0].template == served.template:
        # The word None, which `chat` sends for a system message of null, is a slip that two other sources contradict.
        named = named[:1]
    return [*named, served], ""


def _of_config(folder: Path) -> Iterator[Source]:
    """Yields what config.json's `template` and `system_message` say; InternVL3's null means two things in its code."""
    settings, file = _settings(folder), "config.json"
    if (name := settings.get("template")) is None:
        return
    if name not in TEMPLATES:
        raise InputError(f"{folder}: unknown chat template '{name}' in config.json; known are {', '.join(TEMPLATES)}")
    template = TEMPLATES[name]
    system = settings.get("system_message", template.system)
    if system is None:
        yield Source(template, SCRIPTS, file)
        yield Source(template.with_system("None"), f"{CHAT}, by a slip", file)
    else:
        yield Source(template.with_system(str(system)), f"{SCRIPTS} and {CHAT}", file)


def _settings(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _written(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields file and text of a folder's chat template."""
    if (path := folder / "chat_template.jinja").is_file():
        yield path.name, path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            text = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(text, list):  # of named ones
            text = next((one.get("template") for one in text if one.get("name") == "default"), None)
        if isinstance(text, str):
            yield name, text


def _recognised(text: str, tokenizer: Any, known: Iterable[ChatTemplate]) -> Iterator[ChatTemplate]:
    """Yields the known templates that give the same prompt as a Jinja chat template, with its system message."""
    asked: list[Any] = [QUESTION, [{"type": "text", "text": QUESTION}]]
    rendered = ""
    for content in asked:
        try:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], chat_template=text, tokenize=False, add_generation_prompt=True
            )
        except Exception:  # noqa: BLE001 (a template may fail in any way; it is not recognised then)
            continue
        if QUESTION in rendered:
            break
    rendered = rendered.removeprefix(tokenizer.bos_token or "")
    for template in known:
        tail = template.prompt(QUESTION, system="")
        if not rendered.endswith(tail):
            continue
        head, marks = rendered.removesuffix(tail), template.head_with("\0").split("\0")
        if not head:
            yield template.with_system("")
        elif head.startswith(marks[0]) and head.endswith(marks[1]):
            yield template.with_system(head.removeprefix(marks[0]).removesuffix(marks[1]))


def _nothing_known(folder: Path, kind: str) -> str:
    choices = "; ".join(f"{one.name} ({USERS[one.name]})" for one in OF_TEXT_MODEL.get(kind, TEMPLATES.values()))
    return (
        f"{folder}: neither its config.json nor a known chat template says how prompts are written, and a wrong one "
        f"trains and scores without a sign; set the option template to the one that it was trained with: {choices}. "
        f"Its own system message comes with it ({SCRIPTS} and {CHAT} send it; the published -hf chat templates send "
        "none: system_message none)"
    )


def _disagree(folder: Path, found: list[Source]) -> str:
    ways: dict[str, list[str]] = {}
    for one in found:
        ways.setdefault(_said(one.template), []).append(f"{one.users} ({one.file})")
    same = len({one.template.name for one in found}) == 1
    listed = "; ".join(f"{said}: {' and '.join(users)}" for said, users in ways.items())
    return (
        f"{folder}: its files disagree about the {'system message' if same else 'chat template'}, and a wrong one "
        f"trains and scores without a sign; set the option {'system_message' if same else 'template'} to what the "
        f"model was trained with: {listed}"
    )


def _said(template: ChatTemplate) -> str:
    message = template.system_message
    if not message:
        return f"none (template {template.name})"
    name = "default" if template.other_system is None else "the text"
    return f"{name} ({message if len(message) < 60 else f'{message[:57]}...'!s}, template {template.name})"
