"""The prompt that a checkpoint folder was trained with: known from its files or asked for, never guessed.

A wrong system message or a missing newline costs many points without a sign. So a folder's sources must agree: the
template and the system message that config.json names, and the chat templates that servers and processors apply. If
they do not, or there are none, the user chooses.
"""

import json
import re
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
WAY_OUT = (
    "trains and scores without a sign; set {0} (--data.{0}, --engine.{0} or --{0}) to what the model was trained with"
)

QUESTION = "What is 12 + 7?"
PROMPT_OPEN = "prompt_open"
"""Key of config.json in a folder that was converted from one whose prompt is not certain."""


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
        InputError: the template is unknown or does not fit the tokenizer, or the sources disagree or say nothing and
            the options do not decide.
    """
    if choice.template not in ("auto", *TEMPLATES):
        raise InputError(f"unknown chat template '{choice.template}'; known are {', '.join(TEMPLATES)}")
    found, unknown = _sources(folder, kind, tokenizer, choice)
    if found and unknown and choice.system_message == "auto":
        raise InputError(
            f"{folder}: its {unknown} renders none of the known prompts, or another one each day, and "
            f"{found[0].file} says template '{found[0].template.name}'; a wrong prompt "
            f"{WAY_OUT.format('system_message')}"
        )
    where = ", ".join(dict.fromkeys(one.file for one in found))
    if choice.template != "auto":
        named = [one for one in found if one.template.name == choice.template]
        found = named or [Source(TEMPLATES[choice.template], "", "")]
        where = where if named else "the options"
    if not found:
        raise InputError(_nothing_known(folder, kind, tokenizer))
    if choice.system_message == "chat_template":
        found = [one for one in found if one.users == SERVERS]
        if not found:
            raise InputError(f"{folder}: system_message chat_template: it has no chat template that is known")
    elif choice.system_message != "auto":
        chosen = [replace(one, template=get_template(one.template.name, choice.system_message)) for one in found]
        if chosen != found and where != "the options":
            agreed = len({one.template for one in found}) == 1
            instead = f"the options, instead of {_said(found[0].template)} in {where}"
            where = instead if agreed else f"{where}, system message from the options"
        found = chosen
    if len({one.template for one in found}) > 1 or (
        _settings(_base(folder)).get(PROMPT_OPEN) and choice.system_message == "auto" and choice.template == "auto"
    ):
        raise InputError(_disagree(folder, found))
    template = found[0].template
    if missing := _missing_marks(template, tokenizer):
        fitting = [one.name for one in TEMPLATES.values() if not _missing_marks(one, tokenizer)]
        raise InputError(
            f"{folder}: its tokenizer has no {missing[0]}, which the template '{template.name}' needs; it has all of "
            f"{', '.join(fitting) or 'none'}"
        )
    if choice.trained_newline and not template.after_end:
        raise InputError(f"trained_newline: the chat template '{template.name}' has no newline behind an answer")
    newline = choice.trained_newline
    if newline is None:
        newline = bool(_settings(folder).get("trained_newline", kind in NEWLINE_TRAINED))
    return replace(template, trained_newline=newline and bool(template.after_end)), where


def kept_prompt(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
) -> tuple[ChatTemplate, bool]:
    """Returns the template to write into a converted folder, and whether it is certain.

    A conversion does not have to know the prompt. Where it is not certain, the result keeps what the folder's chat
    template says, else the only template that models with this language model have, and goes on asking.

    Raises:
        InputError: the options do not decide, or nothing is known and there are several templates.
    """
    try:
        return prompt_format(folder, kind, tokenizer, choice)[0], True
    except InputError:
        if choice != PromptChoice():
            raise
        served, _ = _served(folder, kind, tokenizer)
        name, only = _settings(folder).get("template"), OF_TEXT_MODEL.get(kind, ())
        if served:
            return served[0].template, False
        if name not in TEMPLATES and len(only) != 1:
            raise
        return TEMPLATES[name] if name in TEMPLATES else only[0], False


def _sources(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, choice: PromptChoice
) -> tuple[list[Source], str]:
    """Returns the folder's sources, and the file of a chat template that is not known, else ""."""
    base = _base(folder)
    named = list(_of_config(base, choice))
    if named and named[0].template.name not in WITH_CHAT_TEMPLATE:
        return named, ""
    served, unknown = _served(base, kind, tokenizer, named[0].template.name if named else None)
    if len(named) > 1 and any(one.template == named[0].template for one in served):
        # The word None, which `chat` sends for a system message of null, is a slip that two other sources contradict.
        named = named[:1]
    return [*named, *served], unknown


def _base(folder: Path) -> Path:
    """Returns the folder whose files count: the download that this one was made from, unless its config settles it."""
    download = folder / ORIGINAL
    settled = isinstance(_settings(folder).get("system_message"), str)
    return download if not settled and (download / "config.json").is_file() else folder


def _of_config(folder: Path, choice: PromptChoice) -> Iterator[Source]:
    """Yields what config.json's `template` and `system_message` say; InternVL3's null means two things in its code."""
    settings, file = _settings(folder), "config.json"
    name = settings.get("template")
    if name is None or (name not in TEMPLATES and choice.template != "auto"):
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


def _served(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase, name: str | None = None
) -> tuple[list[Source], str]:
    """Returns what a folder's chat templates say, and the file of one that renders no known prompt, else "".

    Args:
        folder: checkpoint folder, in any layout.
        kind: `model_type` of its language model.
        tokenizer: its tokenizer.
        name: the template to recognise; None takes those that models with this language model have.
    """
    known = [TEMPLATES[name]] if name else OF_TEXT_MODEL.get(kind, TEMPLATES.values())
    found, unknown = [], ""
    for file, text in _written(folder):
        matches = list(_recognised(text, tokenizer, known))
        found += [Source(template, SERVERS, file) for template in matches]
        unknown = unknown or ("" if matches else file)
    return found, unknown


def _written(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields file and text of a folder's chat templates."""
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
    rendered = _rendered(text, tokenizer, "2001-01-01")
    if rendered != _rendered(text, tokenizer, "2002-02-02"):
        return  # a system message with a date is another one tomorrow
    for template in known:
        tail = template.prompt(QUESTION, system="")
        if not rendered.endswith(tail):
            continue
        head, marks = rendered.removesuffix(tail), template.head_with("\0").split("\0")
        if not head:
            yield template.with_system("")
        elif head.startswith(marks[0]) and head.endswith(marks[1]):
            yield template.with_system(head.removeprefix(marks[0]).removesuffix(marks[1]))


def _rendered(text: str, tokenizer: Any, day: str) -> str:
    """Returns the prompt for `QUESTION`; "" where the template cannot render it."""
    asked: list[Any] = [QUESTION, [{"type": "text", "text": QUESTION}]]
    for content in asked:
        try:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=text,
                tokenize=False,
                add_generation_prompt=True,
                strftime_now=lambda _: day,
            )
        except Exception:  # noqa: BLE001 (a template may fail in any way; it is not recognised then)
            continue
        if QUESTION in rendered:
            return str(rendered).removeprefix(tokenizer.bos_token or "")
    return ""


def _missing_marks(template: ChatTemplate, tokenizer: Any) -> list[str]:
    """Returns the template's tokens that a tokenizer does not have."""
    text = template.prompt("") + template.answer("") + "".join(template.ends)
    vocabulary = tokenizer.get_vocab()
    return [mark for mark in dict.fromkeys(re.findall(r"<\|\w+\|>", text)) if mark not in vocabulary]


def _nothing_known(folder: Path, kind: str, tokenizer: PreTrainedTokenizerBase) -> str:
    known = [one for one in OF_TEXT_MODEL.get(kind, TEMPLATES.values()) if not _missing_marks(one, tokenizer)]
    choices = "; ".join(f"{one.name} ({USERS[one.name]})" for one in known)
    return (
        f"{folder}: neither its config.json nor a known chat template says how prompts are written, and a wrong one "
        f"{WAY_OUT.format('template')}: {choices}. Its own system message comes with it ({SCRIPTS} and {CHAT} send it; "
        "the published -hf chat templates send none: system_message none)"
    )


def _disagree(folder: Path, found: list[Source]) -> str:
    ways: dict[str, list[str]] = {}
    for one in found:
        ways.setdefault(_said(one.template), []).append(f"{one.users} ({one.file})")
    same = len({one.template.name for one in found}) == 1
    listed = "; ".join(f"{said}: {' and '.join(users)}" for said, users in ways.items())
    if len(ways) == 1:
        what = "was converted from a folder whose files disagree about the system message"
    else:
        what = f"its files disagree about the {'system message' if same else 'chat template'}"
    option = "system_message" if same else "template"
    return f"{folder}: {what}, and a wrong one {WAY_OUT.format(option)}: {listed}"


def _said(template: ChatTemplate) -> str:
    message = template.system_message
    if not message:
        return f"none (template {template.name})"
    name = "default" if template.other_system is None else "the text"
    return f"{name} ({message if len(message) <= 200 else f'{message[:197]}...'!s}, template {template.name})"
