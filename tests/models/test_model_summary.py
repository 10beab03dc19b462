"""`mpo model show`: what a folder is recognised as, in any layout, and its prompt or why that is not certain."""

import re
from pathlib import Path

import pytest

from mpo_lightning.models.loading import load_processor
from support.commands import mpo
from support.golden_now import CHECKPOINTS, stored


def shown(folder: Path, *options: str) -> str:
    done = mpo("model", "show", folder, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "layout", "kind", "source"),
    [
        ("internvl3_5_gpt_oss", "OpenGVLab's layout", "gpt_oss, 2 layers of 64, 4 heads", "config.json"),
        ("internvl2_5_qwen2_hf", "the -hf layout", "qwen2, 2 layers of 64", "chat_template.jinja"),
        ("internvl3_5_qwen3_moe_hf", "the -hf layout", "2 of 4 experts a token", "chat_template.jinja"),
    ],
)
def test_a_folder_is_shown_with_an_example_of_its_prompt(name: str, layout: str, kind: str, source: str) -> None:
    text = shown(CHECKPOINTS / name)
    count = sum(value.numel() for value in stored(CHECKPOINTS / name).values())
    assert layout in text and kind in text and f"from {source}" in text and f"{count / 1e6:.2f} M: " in text
    encoder = load_processor(CHECKPOINTS / name).encoder(12, 10**4, "set_aside")
    prompt, answer = encoder.prompt_ids("<image>\nHow many cats are there?", [1]), encoder.answer_ids("Two.")
    (ids,) = re.findall(r"token ids: (.*) \[\[ (.*) \]\]", text)
    for told, true in zip(ids, (prompt, answer), strict=True):
        numbers = []
        for part in told.split():
            token, _, times = part.partition("*")
            numbers += [int(token)] * int(times or 1)
        assert numbers == true
    assert f"[[{encoder.template.answer('Two.')}".replace("\n", "\\n\n    ") in text


def test_a_prompt_that_is_not_certain_is_said_with_the_choices_and_can_be_tried() -> None:
    text = shown(CHECKPOINTS / "internvl3_5_qwen3")
    assert "prompt          not certain: its files disagree about the system message" in text and "[[" not in text
    text = shown(CHECKPOINTS / "internvl3_5_qwen3", "--system_message", "Be brief.")
    assert "system message  'Be brief.'" in text and "from config.json, chat_template.jinja, system message" in text
