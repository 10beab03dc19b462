"""The prompt of a folder: taken from its files where they agree, asked for where they do not, never guessed."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.family import get_template
from mpo_lightning.models.internvl.templates import INTERNVL2_5_SYSTEM
from mpo_lightning.models.loading import load_model, load_processor
from support.commands import mpo
from support.golden_now import CHECKPOINTS

PLAIN = (CHECKPOINTS / "internvl3_5_qwen3_hf" / "chat_template.jinja").read_text()
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def with_system(text: str) -> str:
    """The chat template of the repositories since 2025: a given system message, else this one."""
    start = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + text + "<|im_end|>\n' }}{% endif %}"
    return start + PLAIN


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Copies a golden folder with another chat template (None: without one) or other settings."""

    def copy(name: str, chat_template: str | None, **settings: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(CHECKPOINTS / name, folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        path = folder / "tokenizer_config.json"
        tokenizer = json.loads(path.read_text())
        tokenizer.pop("chat_template", None)
        path.write_text(json.dumps(tokenizer))
        if chat_template is not None:
            (folder / "chat_template.jinja").write_text(chat_template)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return folder

    return copy


def test_an_hf_folder_says_it_by_its_chat_template(changed: Callable[..., Path]) -> None:
    template = load_processor(CHECKPOINTS / "internvl2_5_qwen2_hf").template
    assert template.name == "internvl2_5" and template.system_message == ""
    early = changed("internvl3_5_qwen3_hf", PLAIN.replace("<IMG_CONTEXT>", "<image>"))
    assert load_processor(early).template.prompt("Q") == template.prompt("Q")
    processor = load_processor(changed("internvl2_5_qwen2_hf", with_system(QWEN)))
    assert processor.template.system_message == QWEN and processor.prompt_source == "chat_template.jinja"


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("internvl2_5_qwen2_hf", ["Hermes-2 (InternVL2-1B", "internvl2_5 (InternVL2.5, 3 and 3.5"]),
        ("internvl2_5_internlm2_hf", ["internlm2-chat", "internvl2_5"]),
        ("internvl3_5_qwen3_moe_hf", ["internvl2_5"]),
        ("internvl3_5_gpt_oss_hf", ["internvl3_5_gpt_oss (InternVL3.5-20B-A4B)"]),
    ],
)
def test_an_hf_folder_without_any_hint_is_refused_with_the_choices(
    changed: Callable[..., Path], name: str, choices: list[str]
) -> None:
    folder = changed(name, None)
    with pytest.raises(InputError) as refused:
        load_processor(folder)
    for choice in [*choices, "set template (--data.template, --engine.template or --template)", "system_message none"]:
        assert choice in str(refused.value)
    template = "internvl3_5_gpt_oss" if "gpt_oss" in name else "internvl2_5"
    assert load_processor(folder, template).template.prompt("Q") == get_template(template).prompt("Q")
    assert load_processor(folder, template, "none").template.system_message == ""


def test_a_chat_template_that_renders_something_else_is_no_hint(changed: Callable[..., Path]) -> None:
    folder = changed("internvl3_5_qwen3_hf", "{% for message in messages %}USER: {{ message['content'] }}{% endfor %}")
    with pytest.raises(InputError, match=r"neither its config\.json nor a known chat template"):
        load_processor(folder)
    original = changed("internvl3_5_qwen3", "{{ raise_exception('no') }}")
    with pytest.raises(InputError, match=r"chat_template\.jinja renders none of the known prompts"):
        load_processor(original)
    assert load_processor(original, "internvl2_5", "default").template.system_message == INTERNVL2_5_SYSTEM


def test_original_folders_whose_files_disagree_are_refused_with_who_sends_what() -> None:
    with pytest.raises(InputError) as refused:
        load_processor(CHECKPOINTS / "internvl3_5_qwen3")
    text = str(refused.value)
    assert "disagree about the system message" in text and "set system_message (--data.system_message" in text
    assert "OpenGVLab's training scripts and model.chat (config.json)" in text and "none (template" in text
    assert "vLLM, SGLang, LMDeploy and transformers apply it (chat_template.jinja)" in text
    for choice, message in (("default", INTERNVL2_5_SYSTEM), ("none", ""), ("Be brief.", "Be brief.")):
        template = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message=choice).template
        assert template.system_message == message
    # A template that is named does not say which of its folder's system messages is meant.
    with pytest.raises(InputError, match="disagree about the system message"):
        load_processor(CHECKPOINTS / "internvl3_5_qwen3", "internvl2_5")


def test_internvl3s_system_message_of_null_means_two_things(changed: Callable[..., Path]) -> None:
    with pytest.raises(InputError) as refused:
        load_processor(CHECKPOINTS / "internvl2_5_qwen2")
    for part in ("model.chat, by a slip", "the text (None, template", "default (", "none (template"):
        assert part in str(refused.value)
    # The slip cannot be chosen by mistake.
    for told in ("None", "null", "Default", ""):
        with pytest.raises(InputError, match="give one of auto, none, default, thinking, chat_template, or the text"):
            load_processor(CHECKPOINTS / "internvl2_5_qwen2", system_message=told)
    with pytest.raises(InputError, match="reserved mark <|im_end|>".replace("|", r"\|")):
        load_processor(CHECKPOINTS / "internvl2_5_qwen2", system_message="x<|im_end|>")
    with pytest.raises(InputError, match="system_message is None"):
        load_processor(CHECKPOINTS / "internvl2_5_qwen2", system_message=None)
    agreed = changed("internvl2_5_qwen2", with_system(INTERNVL2_5_SYSTEM))
    assert load_processor(agreed).template == get_template("internvl2_5")


def test_sources_that_agree_settle_it(changed: Callable[..., Path]) -> None:
    folder = changed("internvl3_5_qwen3", with_system(INTERNVL2_5_SYSTEM))
    processor = load_processor(folder)
    assert processor.template.other_system is None and processor.prompt_source == "config.json, chat_template.jinja"
    assert load_processor(CHECKPOINTS / "internvl3_5_gpt_oss").template.name == "internvl3_5_gpt_oss"
    other = changed("internvl3_5_qwen3_moe", with_system("Be brief."), system_message="Be brief.")
    assert load_processor(other).template.system_message == "Be brief."


def test_the_template_of_internvl2_is_the_configs_whatever_the_tokenizer_brings(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "internvl2"
    shutil.copytree(golden / "checkpoints" / "qwen2_bias", folder)
    (folder / "chat_template.jinja").write_text(with_system("You are a helpful assistant."))
    assert load_processor(folder).template == get_template("Hermes-2")


def test_what_was_trained_is_on_record_and_asked_for_no_more(tmp_path: Path) -> None:
    source = CHECKPOINTS / "internvl3_5_qwen3"
    for number, choice in enumerate(("none", "default", "Be brief.")):
        processor, output = load_processor(source, system_message=choice), tmp_path / str(number)
        save_folder(load_model(source), processor, output)
        again = load_processor(output)
        assert again.template == processor.template
        config = json.loads((output / "config.json").read_text())
        assert (config["template"], config["system_message"]) == ("internvl2_5", processor.template.system_message)
        rendered = again.tokenizer.apply_chat_template(
            [{"role": "user", "content": "Q"}], tokenize=False, add_generation_prompt=True
        )
        assert rendered == processor.template.prompt("Q")


def test_the_newline_behind_an_answer_is_trained_as_the_models_code_does() -> None:
    for name, newline in (("internvl2_5_qwen2", False), ("internvl3_5_qwen3", True), ("internvl3_5_gpt_oss", False)):
        assert load_processor(CHECKPOINTS / name, system_message="default").template.trained_newline is newline
    plain = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message="default", trained_newline=False).template
    assert plain.answer("Yes.") == "Yes.<|im_end|>"


DATED = """{%- set today = strftime_now('%d %b %Y') %}<|im_start|>system
Today is {{ today }}.<|im_end|>
"""


def test_a_system_message_with_a_date_is_no_hint(changed: Callable[..., Path]) -> None:
    folder = changed("internvl3_5_qwen3_hf", DATED + PLAIN)
    with pytest.raises(InputError, match=r"neither its config\.json nor a known chat template"):
        load_processor(folder)
    assert load_processor(folder, "internvl2_5", "none").template.system_message == ""


def test_two_chat_templates_of_a_folder_must_agree(changed: Callable[..., Path]) -> None:
    folder = changed("internvl3_5_qwen3_hf", PLAIN)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"chat_template": with_system(QWEN)}))
    with pytest.raises(InputError, match=r"disagree about the system message.*\(chat_template\.jinja\).*You are Qwen"):
        load_processor(folder)
    path.write_text(json.dumps(settings | {"chat_template": PLAIN.replace("<IMG_CONTEXT>", "<image>")}))
    assert load_processor(folder).template.system_message == ""


def test_the_chat_templates_own_message_has_a_name(changed: Callable[..., Path]) -> None:
    """For a download whose template brings a long text of its own."""
    folder = changed("internvl3_5_qwen3", with_system(QWEN))
    with pytest.raises(InputError, match=re.escape(QWEN)):
        load_processor(folder)
    assert load_processor(folder, system_message="chat_template").template.system_message == QWEN
    with pytest.raises(InputError, match="it has no chat template that is known"):
        load_processor(changed("internvl3_5_gpt_oss", None), system_message="chat_template")


def test_a_template_that_the_tokenizer_cannot_write_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"has no <\|\w+\|>, which the template 'phi3-chat' needs; it has all of .*internvl2_5"
    ):
        load_processor(CHECKPOINTS / "internvl3_5_qwen3_hf", "phi3-chat")


def test_a_config_without_a_known_template_has_a_way_out(changed: Callable[..., Path]) -> None:
    unknown = changed("internvl3_5_qwen3", PLAIN, template="internvl9")
    with pytest.raises(InputError, match=r"unknown chat template 'internvl9' in config\.json"):
        load_processor(unknown)
    assert load_processor(unknown, "internvl2_5").template.system_message == ""
    none = changed("internvl3_5_qwen3_moe", PLAIN, template=None)
    assert load_processor(none).template.name == "internvl2_5"


def test_a_system_message_may_look_like_jinja(tmp_path: Path) -> None:
    source, text = CHECKPOINTS / "internvl3_5_qwen3", 'Answer in \\boxed{{answer}}.\n{# no #} {% raw %} "so" 星'
    save_folder(load_model(source), load_processor(source, system_message=text), tmp_path / "out")
    again = load_processor(tmp_path / "out")
    assert again.template.system_message == text
    rendered = again.tokenizer.apply_chat_template([{"role": "user", "content": "Q"}], tokenize=False)
    assert text in rendered


def test_what_is_trained_of_an_answer_stays_on_record(tmp_path: Path) -> None:
    source = CHECKPOINTS / "internvl2_5_qwen2_hf"
    save_folder(load_model(source), load_processor(source, trained_newline=True), tmp_path / "out")
    assert load_processor(tmp_path / "out").template.trained_newline


def test_options_against_what_the_files_say_are_said() -> None:
    processor = load_processor(CHECKPOINTS / "internvl2_5_qwen2_hf", system_message="default")
    assert processor.prompt_source == "the options, instead of none (template internvl2_5) in chat_template.jinja"
    assert processor.said.startswith("prompt: template internvl2_5, system message '你是书生")


@pytest.mark.parametrize("layout", ["hf", "opengvlab"])
def test_no_layout_settles_what_is_open(changed: Callable[..., Path], tmp_path: Path, layout: str) -> None:
    source = changed("internvl3_5_qwen3_hf", None) if layout == "opengvlab" else CHECKPOINTS / "internvl3_5_qwen3"
    done = mpo("model", "convert", "--source", source, "--output", tmp_path / "out", "--to", layout)
    assert done.returncode == 0 and "its files do not settle the prompt" in done.stdout
    with pytest.raises(InputError, match="disagree"):
        load_processor(tmp_path / "out")
    assert load_processor(tmp_path / "out", system_message="none").template.system_message == ""


def test_a_conversion_does_not_decide_what_the_files_leave_open(tmp_path: Path) -> None:
    done = mpo("model", "convert", "--source", CHECKPOINTS / "internvl3_5_qwen3", "--output", tmp_path / "native")
    assert done.returncode == 0 and "its files do not settle the prompt" in done.stdout
    with pytest.raises(InputError, match="disagree about the system message"):
        load_processor(tmp_path / "native")
    words = ("--source", CHECKPOINTS / "internvl3_5_qwen3", "--output", tmp_path / "none", "--system_message", "none")
    done = mpo("model", "convert", *words)
    assert done.returncode == 0 and "settle" not in done.stdout
    assert load_processor(tmp_path / "none").template.system_message == ""
