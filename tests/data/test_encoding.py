"""Prompts, ids and label spans against the reference's, and the places where we differ on purpose."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.batch import collate
from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.plan import Occurrence
from mpo_lightning.data.records import PreferenceRecord, checked_question
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.models.family import get_template
from mpo_lightning.models.internvl.opengvlab.tokenizer import original_tokenizer
from mpo_lightning.models.internvl.templates import TEMPLATES
from mpo_lightning.models.internvl.tiling import InternVLPictures, normalize_tiles
from support.turns import turn_texts

IGNORE = -100  # the reference's label of a position that is not trained
NAMES = ("internlm2_gqa", "qwen2_bias", "llama_vit6b", "phi3_fused")


@pytest.fixture(scope="module")
def tokenizers(golden: Path) -> dict[str, PreTrainedTokenizerBase]:
    return {name: original_tokenizer(golden / "checkpoints" / name) for name in NAMES}


def golden_records(golden: Path) -> list[PreferenceRecord]:
    folder = golden / "prompts" / "preference_data"
    records = []
    for line in (folder / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        names = row.get("image") or []
        images = tuple(
            (folder / "images" / name).read_bytes() for name in ([names] if isinstance(names, str) else names)
        )
        question = checked_question(row["question"], len(images))
        records.append(PreferenceRecord(str(row["id"]), question, row["chosen"], row["rejected"], images))
    return records


def encoder_for(tokenizer: PreTrainedTokenizerBase, template: str, **changes: object) -> PairEncoder:
    settings = {"pictures": InternVLPictures(56, 4), "max_tiles": 6, "max_length": 600} | changes
    return PairEncoder(tokenizer, get_template(template), **settings)


def test_a_template_without_a_system_message_begins_with_the_user() -> None:
    plain = ChatTemplate("plain", "SYSTEM: ", "USER: ", "ASSISTANT: ", "</s>", after_end="\n")
    assert plain.prompt("Why?") == "USER: Why?</s>\nASSISTANT: " and plain.head == ""


def test_templates_render_the_golden_strings(golden: Path) -> None:
    for name, case in json.loads((golden / "prompts" / "templates.json").read_text()).items():
        template = TEMPLATES[name]
        assert template.system == case["system_message"]
        assert template.prompt("<image>\nWhat is this?") == case["generation_prompt_one_image"]
        rendered = "".join(piece for piece, _ in turn_texts(template, [("Hello?", "Hi."), ("And now?", "")])[:3])
        assert rendered == case["generation_prompt_two_turns"]


def test_golden_label_masks_are_reproduced(golden: Path, tokenizers: dict) -> None:
    compared, differences = 0, []
    for case in json.loads((golden / "prompts" / "preprocess_masks.json").read_text()):
        if case["tokenizer"] not in tokenizers:
            continue
        encoder = encoder_for(tokenizers[case["tokenizer"]], case["template"])
        values = [turn["value"] for turn in case["conversation"]]
        turns = list(zip(values[::2], values[1::2], strict=True))
        tiles = [count // 4 for count in case["num_image_tokens"]]
        ids, labels = [], []
        for number, (text, trained) in enumerate(turn_texts(encoder.template, turns)):
            if number == 0:
                piece = encoder.prompt_ids(turns[0][0], tiles)
            else:
                piece = list(encoder.tokenizer(text, add_special_tokens=False).input_ids)
            ids += piece
            labels += piece if trained else [IGNORE] * len(piece)
        if (ids, labels) == (case["input_ids"], case["labels"]):
            compared += 1
        else:
            differences.append((case["template"], case["tokenizer"], case["case"]))
    assert compared == 34
    # Two turns of phi3-chat: the reference's fixed length corrections mask every label; ours are in place.
    # White space in front of an answer: `<|assistant|>` swallows it when prompt and answer are tokenized together; a
    # model never
    # generates behind such a prompt, and ours keeps the answer as it is.
    assert differences == [
        ("phi3-chat", "phi3_fused", "two_turns_one_image"),
        ("phi3-chat", "phi3_fused", "answer_with_spaces"),
    ]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("internlm2-chat", "internlm2_gqa"),
        ("internvl2_5", "internlm2_gqa"),
        ("Hermes-2", "qwen2_bias"),
        ("Hermes-2", "llama_vit6b"),
        ("phi3-chat", "phi3_fused"),
        ("internvl2_5", "qwen2_bias"),
    ],
)
def test_golden_preference_items_are_reproduced(golden: Path, tokenizers: dict, template: str, name: str) -> None:
    items = json.loads((golden / "prompts" / "preference_items.json").read_text())[f"{template}|{name}"]
    pixels = load_file(golden / "prompts" / "preference_pixels_56.safetensors")
    encoder = encoder_for(tokenizers[name], template)
    after = list(encoder.tokenizer(encoder.template.after_end, add_special_tokens=False).input_ids)
    for record, item in zip(golden_records(golden), items, strict=True):
        pair = encoder.encode(record)
        for side, ids in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids)):
            theirs, labels = item[f"{side}_input_ids"], item[f"{side}_labels"]
            ours = [*pair.prompt_ids.tolist(), *ids.tolist(), *after]
            assert ours == theirs[: len(ours)]  # item 2 is padded to the end by the reference
            trained = [position for position, label in enumerate(labels) if label != IGNORE]
            assert trained == list(range(len(pair.prompt_ids), len(pair.prompt_ids) + len(ids)))
        if sum(item["image_flags"]):
            torch.testing.assert_close(
                normalize_tiles(pair.tiles), pixels[f"id{record.key}_pixel_values"], rtol=0, atol=1e-6
            )
        else:
            assert len(pair.tiles) == 0  # the reference adds a white picture and drops its features; we add none


def test_the_exclamation_mark_of_qwen_keeps_its_attention(golden: Path, tokenizers: dict) -> None:
    """The reference's collator takes id 0, Qwen2's `!`, for padding."""
    collated = json.loads((golden / "prompts" / "preference_items.json").read_text())[
        "Hermes-2|qwen2_bias|collated_ids_0_1_3"
    ]
    encoder = encoder_for(tokenizers["qwen2_bias"], "Hermes-2")
    records = golden_records(golden)
    batch = collate([encoder.encode(records[number]) for number in (0, 1, 3)], 56)
    assert int((batch.targets == 0).sum()) == 1  # a target like any other, and every token of a row is attended
    prompt, _, rejected = batch.lengths[2]
    assert int(torch.tensor(collated["rejected_attention_mask"])[2].sum()) == prompt + rejected - 1


def test_a_cut_answer_loses_its_end_and_a_prompt_is_never_cut(golden: Path, tokenizers: dict) -> None:
    """The reference cuts image tokens and can leave a sample without labels; we cut answers or refuse."""
    record = golden_records(golden)[0]
    tokenizer = tokenizers["qwen2_bias"]
    whole = encoder_for(tokenizer, "Hermes-2").encode(record)
    length = len(whole.prompt_ids) + 10
    cut = encoder_for(tokenizer, "Hermes-2", max_length=length).encode(record)
    assert torch.equal(cut.prompt_ids, whole.prompt_ids) and cut.cut == 2
    assert torch.equal(cut.chosen_ids, whole.chosen_ids[:10])
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in cut.chosen_ids
    with pytest.raises(BadRecord, match="overlong: truncate"):
        encoder_for(tokenizer, "Hermes-2", max_length=length, overlong="set_aside").encode(record)
    with pytest.raises(BadRecord, match="12 of them for images"):
        encoder_for(tokenizer, "Hermes-2", max_length=60).encode(record)
    with pytest.raises(BadRecord, match="same tokens once cut"):
        encoder_for(tokenizer, "Hermes-2", max_length=len(whole.prompt_ids) + 2).encode(record)


def test_several_pictures_share_the_limit_and_a_records_own_limit_wins(tokenizers: dict) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (600, 300), "green").save(buffer, "PNG")
    encoder = encoder_for(tokenizers["qwen2_bias"], "Hermes-2", max_tiles=6)
    two = PreferenceRecord("k", "<image> or <image>?", "a", "b", (buffer.getvalue(),) * 2)
    assert len(encoder.encode(two).tiles) == 2 * 3  # three tiles a picture: 2 x 1 and the whole
    one = PreferenceRecord("k", "<image>?", "a", "b", (buffer.getvalue(),), max_tiles=1)
    assert len(encoder.encode(one).tiles) == 1


def test_augmentation_belongs_to_the_occurrence(tokenizers: dict) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((200, 100), 80).save(buffer, "PNG")
    record = PreferenceRecord("k", "<image>?", "a", "b", (buffer.getvalue(),), augment=True)
    encoder = encoder_for(tokenizers["qwen2_bias"], "Hermes-2")
    first, again, other = (encoder.encode(record, Occurrence(3, epoch, 0), seed=1).tiles for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, encoder.encode(record).tiles)


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(InputError, match="unknown chat template 'chatml'"):
        get_template("chatml")


def test_a_row_holds_each_prompt_once_and_scores_answers_only(golden: Path, tokenizers: dict) -> None:
    encoder = encoder_for(tokenizers["llama_vit6b"], "Hermes-2")
    pairs = [encoder.encode(record) for record in golden_records(golden)[:3]]
    batch = collate(pairs, tile_size=56)
    start = 0
    for number, pair in enumerate(pairs):
        prompt, chosen, rejected = batch.lengths[number]
        row = batch.input_ids[start : start + prompt + chosen + rejected]
        assert torch.equal(row, torch.cat([pair.prompt_ids, pair.chosen_ids, pair.rejected_ids]))
        positions = batch.position_ids[start : start + len(row)].tolist()
        assert positions == [*range(prompt + chosen), *range(prompt, prompt + rejected)]
        sides = (int(batch.chosen[number]), pair.chosen_ids), (int(batch.rejected[number]), pair.rejected_ids)
        for answer, ids in sides:
            mine = batch.answers == answer
            assert torch.equal(batch.targets[mine], ids)
            # The predictor stands one position before its target.
            assert (batch.position_ids[batch.predictors[mine]] + 1).tolist() == [*range(prompt, prompt + len(ids))]
            assert int(batch.predictors[mine][0]) == start + prompt - 1
        start += len(row)
    assert start == len(batch.input_ids) and len(batch.tiles) == sum(len(pair.tiles) for pair in pairs)


def test_an_empty_micro_batch_is_one_blank_pair_of_no_weight() -> None:
    batch = collate([], tile_size=56, step_pairs=3, last_of_step=False)
    assert batch.pairs == 1 and batch.weights.tolist() == [0.0] and batch.step_pairs == 3 and len(batch.tiles) == 0
