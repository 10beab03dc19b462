"""Answers of today's language models: with the key-value cache the same words as without one."""

import json
from pathlib import Path

import pytest
import torch

from mpo_lightning.data.prompts import Prompt, QuestionFile
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import BadRecord
from mpo_lightning.models.draws import forbidden_ids
from mpo_lightning.models.generation import decoded, encode_prompt, generate, pad_prompts
from mpo_lightning.models.internvl.tiling import normalize_tiles
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.rows.pair_forward import PairForward
from support.golden_now import CHECKPOINTS, NAMES, records


@pytest.mark.parametrize("name", NAMES)
def test_several_answers_of_one_read_prompt_are_those_of_plain_generation(name: str) -> None:
    """Prompts of different lengths in a batch, longer than GPT-OSS's window of 16, each answered twice."""
    model, processor = load_model(CHECKPOINTS / name), load_processor(CHECKPOINTS / name, system_message="default")
    encoder = processor.encoder(3, 10**4, "set_aside")
    picture = records()[0].images
    prompts = [Prompt(f"{IMAGE_MARK}\nHow many cats are in the image?", picture), Prompt("What is 3 + 4?", ())]
    encoded = [encode_prompt(encoder, prompt) for prompt in prompts]
    batch = pad_prompts(encoded)
    once = generate(model, processor, batch, 9)
    twice = generate(model, processor, batch, 9, rows=[0, 1, 1, 0])
    assert [answer.text for answer in twice] == [once[number].text for number in (0, 1, 1, 0)]
    inside = PairForward(load_model(CHECKPOINTS / name))
    assert [answer.text for answer in generate(inside, processor, batch, 9)] == [answer.text for answer in once]
    ends = [processor.tokenizer.convert_tokens_to_ids(end) for end in processor.template.ends]
    for prompt, answer in zip(encoded, once, strict=True):
        pixels = normalize_tiles(prompt.tiles) if len(prompt.tiles) else None
        ids = prompt.ids[None]
        for _ in range(9):
            with torch.no_grad():
                logits = model(input_ids=ids, pixel_values=pixels, use_cache=False).logits[0, -1]
            ids = torch.cat([ids, logits.argmax().view(1, 1)], dim=1)
            if int(ids[0, -1]) in ends:
                break
        new = [token for token in ids[0, len(prompt.ids) :].tolist() if token not in ends]
        before = processor.tokenizer.decode(prompt.ids, skip_special_tokens=True)
        assert processor.tokenizer.decode(new, skip_special_tokens=True).strip() == answer.text.strip() or (
            processor.tokenizer.decode([*prompt.ids.tolist(), *new], skip_special_tokens=True).removeprefix(before)
            == answer.text
        )


def test_the_channel_that_gpt_oss_writes_first_is_no_part_of_the_answer() -> None:
    processor = load_processor(CHECKPOINTS / "internvl3_5_gpt_oss")
    allowed = set(range(434)) - set(forbidden_ids(processor.tokenizer, processor.template, 434))
    named = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in processor.template.ends}
    for token in ("<|channel|>", "<|message|>"):
        named[token] = processor.tokenizer.convert_tokens_to_ids(token)
    assert set(named.values()) <= allowed and processor.tokenizer.convert_tokens_to_ids("<|start|>") not in allowed

    class Fixed:
        """Writes a channel, a message and an end, as the trained model does."""

        written = processor.tokenizer("<|channel|>final<|message|>A cat.<|return|>", add_special_tokens=False).input_ids

    model = load_model(CHECKPOINTS / "internvl3_5_gpt_oss")
    encoder = processor.encoder(3, 10**4, "set_aside")
    batch = pad_prompts([encode_prompt(encoder, Prompt("What is it?", ()))])
    model.generate = lambda input_ids, **_: torch.cat([input_ids, torch.tensor([Fixed.written])], dim=1)
    (answer,) = generate(model, processor, batch, 20)
    assert (answer.text, answer.finished) == ("A cat.", True)
    assert encoder.begun_ids("A ca")[: len(Fixed.written) - 4] == Fixed.written[: len(Fixed.written) - 4]


def test_a_questions_own_system_message_is_in_its_prompt(tmp_path: Path) -> None:
    """From pairs and from a questions file; other prompts keep the run's."""
    encoder = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message="none").encoder(1, 10**4, "set_aside")
    path = tmp_path / "questions.jsonl"
    rows = [{"question": "Why?"} | more for more in ({"system_prompt": "Be brief."}, {}, {"system_prompt": 5})]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = QuestionFile(path)
    one, other = (encode_prompt(encoder, questions[number]).ids.tolist() for number in (0, 1))
    assert one == encoder.prompt_ids("Why?", [], "Be brief.") and other == encoder.prompt_ids("Why?", [])
    assert one != other
    with pytest.raises(BadRecord, match="'system_prompt' is int"):
        questions[2]


def test_half_a_character_behind_a_begun_answer_adds_itself_alone(golden: Path) -> None:
    """InternLM2's tokens may be single bytes; the newline before an incomplete character would be lost with it."""
    tokenizer = load_processor(golden / "checkpoints" / "internlm2_gqa").tokenizer
    before = tokenizer("First,\n", add_special_tokens=False).input_ids
    half, letter = tokenizer.convert_tokens_to_ids(["<0xC1>", "C"])
    assert decoded(tokenizer, before, [half, letter]) == "\ufffdC"
    assert decoded(tokenizer, before, [letter]) == "C"
