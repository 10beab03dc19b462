"""InternVL 2.5, 3 and 3.5 against the original code: both layouts, logits, words, prompts, ids and masks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpo_lightning.commands.model import convert
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.models.family import get_template
from mpo_lightning.models.internvl.templates import SYSTEM_MESSAGES
from mpo_lightning.models.loading import empty_model, load_model, load_processor
from support.golden_now import CHECKPOINTS, NAMES, numbers, records, stored

HF = tuple(f"{name}_hf" for name in NAMES)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Each golden folder's model, original and -hf, in float32; they are not changed."""
    return {name: load_model(CHECKPOINTS / name) for name in (*NAMES, *HF)}


@pytest.mark.parametrize("name", [*NAMES, *HF])
def test_logits_and_words_are_those_of_the_original_code(models: dict[str, Any], name: str) -> None:
    model, of = models[name], load_file(CHECKPOINTS / name.removesuffix("_hf") / "golden.safetensors")
    pixels = of["pixel_values"]
    with torch.no_grad():
        logits = model(
            input_ids=of["input_ids"],
            attention_mask=of["attention_mask"],
            pixel_values=pixels[of["image_flags"].bool()],
        ).logits
        new = model.generate(
            input_ids=of["gen_prompt_ids"][None],
            attention_mask=torch.ones_like(of["gen_prompt_ids"])[None],
            pixel_values=pixels[:2],
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
        )
        features = model.model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
    attended = of["attention_mask"].bool()
    # The golden numbers are float32: those of GPT-OSS are 1.02e-5 from a float64 forward of the same weights.
    tolerance = 2e-5 if "gpt_oss" in name else 1e-5
    torch.testing.assert_close(logits[attended], of["logits"][attended], rtol=0, atol=tolerance)
    torch.testing.assert_close(features.view_as(of["vit_features"]), of["vit_features"], rtol=0, atol=1e-5)
    assert new[0, -8:].tolist() == of["gen_new_ids"].tolist()


@pytest.mark.parametrize("name", ["internvl2_5_qwen2", "internvl2_5_internlm2"])
@pytest.mark.parametrize("layout", ["", "_hf"])
def test_beyond_its_length_dynamic_rope_is_a_choice_and_named(tmp_path: Path, name: str, layout: str) -> None:
    """Qwen2 of transformers 4.37, with which 2.5 and 3 were trained, ignores it; InternLM2 and later Qwen2 do not."""
    of = load_file(CHECKPOINTS / name / "golden.safetensors")
    scaled = of.get("long_logits_dynamic", of["long_logits"])
    source = CHECKPOINTS / f"{name}{layout}"
    convert(str(source), str(tmp_path / "without"), system_message="none", dynamic_rope=False)
    with torch.no_grad():
        ours = load_model(CHECKPOINTS / f"{name}{layout}")(input_ids=of["long_input_ids"]).logits
        without = load_model(tmp_path / "without")(input_ids=of["long_input_ids"]).logits
    torch.testing.assert_close(ours, scaled, rtol=0, atol=1e-5)
    if name == "internvl2_5_qwen2":
        torch.testing.assert_close(without, of["long_logits"], rtol=0, atol=1e-5)
    assert (without - scaled).abs().max() > 1


@pytest.mark.parametrize("name", NAMES)
def test_every_way_between_the_layouts_gives_back_every_bit(tmp_path: Path, name: str) -> None:
    original, published = CHECKPOINTS / name, CHECKPOINTS / f"{name}_hf"
    before, native = stored(original), stored(published)
    convert(str(original), str(tmp_path / "native"))
    convert(str(original), str(tmp_path / "hf"), to="hf")
    convert(str(published), str(tmp_path / "original"), to="opengvlab")
    choice = {"template": "internvl3_5_gpt_oss"} if name == "internvl3_5_gpt_oss" else {}
    convert(str(published), str(tmp_path / "recorded"), **choice)
    convert(str(tmp_path / "native"), str(tmp_path / "back"), to="opengvlab")
    convert(str(tmp_path / "recorded"), str(tmp_path / "hf back"), to="hf")
    for folder in ("native", "hf", "recorded", "hf back"):
        assert same_bits(stored(tmp_path / folder), native), folder
    convert(str(tmp_path / "hf"), str(tmp_path / "original from hf"), to="opengvlab")
    for folder in ("original", "back", "original from hf"):
        assert same_bits(stored(tmp_path / folder), before), folder
    assert {path.name for path in (tmp_path / "back").iterdir()} >= {
        path.name for path in original.iterdir() if "golden" not in path.name and ".safetensors" not in path.name
    }
    # What decides the arithmetic is the same in a config that was made anew.
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (original, tmp_path / "original"))
    for part in ("llm_config", "vision_config"):
        apart = {"auto_map", "attn_implementation", "torch_dtype", "drop_path_rate", "use_cache", "eos_token_id"}
        shared = old[part].keys() & new[part].keys() - apart
        assert len(shared) > 10 and {key: old[part][key] for key in shared} == {key: new[part][key] for key in shared}
    assert (old["template"], new["template"]) == (old["template"],) * 2


def same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == value.dtype and torch.equal(ours[name], value) for name, value in theirs.items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_hf_folder_says_what_a_published_one_says(tmp_path: Path, name: str) -> None:
    convert(str(CHECKPOINTS / name), str(tmp_path / "hf"), to="hf", system_message="none")
    ours, theirs = (
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "hf", CHECKPOINTS / f"{name}_hf")
    )
    assert "template" not in ours and "system_message" not in ours and ours["tie_word_embeddings"] is False
    for part in ("text_config", "vision_config"):
        apart = {"architectures", "_name_or_path", "use_cache", "eos_token_id", "pad_token_id", "bos_token_id"}
        shared = ours[part].keys() & theirs[part].keys() - apart
        assert len(shared) > 10
        for key in shared - {"rope_scaling"}:
            assert ours[part][key] == theirs[part][key], key
    scaling = [one["text_config"]["rope_scaling"] or {} for one in (ours, theirs)]
    assert scaling[0] == {key: value for key, value in scaling[1].items() if key != "type"}
    template = load_processor(tmp_path / "hf").template
    assert (
        template.system_message == ""
        and template.name == json.loads((CHECKPOINTS / name / "config.json").read_text())["template"]
    )


@pytest.mark.parametrize("name", ["internvl2_5_qwen2_hf", "internvl3_5_qwen3_moe_hf"])
def test_names_as_in_a_loaded_model_open_too(tmp_path: Path, name: str) -> None:
    """As xtuner writes them: `model.language_model.*`, `lm_head.weight`."""
    folder = tmp_path / "loaded"
    shutil.copytree(CHECKPOINTS / name, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    renamed = {}
    for key, value in stored(CHECKPOINTS / name).items():
        for disk, loaded in (("language_model.model.", "model.language_model."), ("language_model.lm_head", "lm_head")):
            key = key.replace(disk, loaded) if key.startswith(disk) else key
        renamed[f"model.{key}" if key.startswith(("vision_tower", "multi_modal")) else key] = value
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    ours, theirs = load_model(folder).state_dict(), load_model(CHECKPOINTS / name).state_dict()
    assert same_bits(ours, theirs)
    convert(str(folder), str(tmp_path / "original"), to="opengvlab")
    assert same_bits(stored(tmp_path / "original"), stored(CHECKPOINTS / name.removesuffix("_hf")))


@pytest.mark.parametrize("name", HF)
def test_head_and_embedding_stay_apart_though_an_hf_config_does_not_say_so(name: str) -> None:
    """transformers takes an -hf config for tied, and a model built from it would lose one of the two tensors."""
    assert "tie_word_embeddings" not in json.loads((CHECKPOINTS / name / "config.json").read_text())
    model = empty_model(CHECKPOINTS / name)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    assert not model.config.tie_word_embeddings and not model.config.text_config.tie_word_embeddings


def test_a_model_without_a_stored_head_is_tied(tmp_path: Path) -> None:
    folder = tmp_path / "tied"
    shutil.copytree(CHECKPOINTS / "internvl3_5_qwen3_hf", folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    weights = stored(CHECKPOINTS / "internvl3_5_qwen3_hf")
    del weights["language_model.lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# -- prompts


CASES = [
    case
    for case in numbers("prompts", "preprocess_masks.json")
    if "raises" not in case and "two_turns" not in case["case"]  # a pair has one turn
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['tokenizer']}-{case['case']}")
def test_prompt_ids_and_what_is_trained_are_the_originals(case: dict[str, Any]) -> None:
    turns = case["conversation"]
    system = turns[0]["value"] if turns[0]["from"] == "system" else None
    question, answer = turns[-2:]
    processor = load_processor(
        CHECKPOINTS / case["tokenizer"], template=case["template"], system_message="default", trained_newline=False
    )
    encoder = processor.encoder(12, 10**6, "set_aside")
    tiles = [] if case["text_only"] else [count // 4 for count in case["num_image_tokens"]]
    prompt = encoder.prompt_ids(question["value"], tiles, system)
    trained = encoder.answer_ids(answer["value"])
    assert prompt == case["input_ids"][: len(prompt)]
    labels = [label for label in case["labels"] if label != -100]
    if case["case"] == "two_images" and case["template"] == "internvl3_5_gpt_oss":
        # A loop variable's slip ends this answer with <|return|>; see the template.
        assert trained[:-1] == labels[:-1] and processor.tokenizer.decode(labels[-1:]) in processor.template.ends
    else:
        assert trained == labels


@pytest.mark.parametrize("name", NAMES)
def test_what_chat_sends_is_the_prompt(name: str) -> None:
    """`chat` of InternVL3 sends the word None for its system message of null; see the template's choices."""
    sent = numbers("prompts", "chat_prompts.json")[name]
    message = "None" if sent["config_system_message"] is None else None
    encoder = load_processor(CHECKPOINTS / name, system_message="default").encoder(12, 10**6, "set_aside")
    ours = encoder.prompt_ids(f"{IMAGE_MARK}\nWhat is this?", [1], message)
    assert ours == sent["chat_input_ids"]


@pytest.mark.parametrize("name", [name for name in HF if "gpt_oss" not in name])
def test_an_hf_folders_prompt_is_that_of_its_processor(name: str) -> None:
    """Turns with the images in front: the -hf template puts a newline behind each, wherever it stands."""
    encoder = load_processor(CHECKPOINTS / name).encoder(6, 10**6, "set_aside")
    compared = 0
    for case in numbers("prompts", "hf_chat.json")[name]:
        parts = case["messages"][-1]["content"]
        if len(case["messages"]) > 1 or not case["add_generation_prompt"] or isinstance(parts, str):
            continue
        text = "".join(f"{IMAGE_MARK}\n" if part["type"] == "image" else part["text"] for part in parts)
        count = text.count(IMAGE_MARK)
        tiles = [case["pixel_values_shape"][0] // count] * count if count else []
        assert encoder.template.prompt(text.replace(IMAGE_MARK, "<IMG_CONTEXT>")) == case["rendered"]
        assert encoder.prompt_ids(text, tiles) == case["input_ids"]
        compared += 1
    assert compared > 1


@pytest.mark.parametrize("name", [*NAMES, *HF])
def test_tokenizers_give_the_originals_ids(name: str) -> None:
    known = numbers("prompts", "tokenizer_ids.json")
    options = {"template": "internvl3_5_gpt_oss"} if "gpt_oss" in name else {"system_message": "default"}
    tokenizer = load_processor(CHECKPOINTS / name, **options).tokenizer
    texts = known.get(name) or known[name.removesuffix("_hf")]
    compared = 0
    for entry in texts:
        assert tokenizer(entry["text"]).input_ids == entry["ids"], entry["text"]
        compared += 1
    assert compared > 10


@pytest.mark.parametrize("name", ["internvl3_5_qwen3", "internvl3_5_gpt_oss"])
def test_preference_items_are_those_of_the_35_code(name: str) -> None:
    """Prompt, answers and tiles; the newline behind `<|im_end|>` is trained there, and so it is by default here."""
    template = "internvl3_5_gpt_oss" if "gpt_oss" in name else "internvl2_5"
    items = numbers("prompts", "preference_items.json")[f"{template}|{name}"]
    encoder = load_processor(CHECKPOINTS / name, system_message="default").encoder(6, 600, "set_aside")
    compared = 0
    for item, record in zip(items, records(), strict=True):
        if "raises" in item:
            assert template == "internvl3_5_gpt_oss" and not record.images  # text alone fails there, and is done here
            encoder.encode(record)
            continue
        ours = encoder.encode(record)
        assert ours.prompt_ids.tolist() == item["prompt_input_ids"] and len(ours.tiles) == sum(item["image_flags"])
        for side in ("chosen", "rejected"):
            mine, theirs = getattr(ours, f"{side}_ids").tolist(), item[f"{side}_input_ids"]
            if len(record.images) > 1:  # where it is padded to 600, the padding is trained
                assert len(theirs) == len(mine) or len(ours.prompt_ids) + len(theirs) == 600
                theirs = theirs[: len(mine)]
                if template == "internvl3_5_gpt_oss":
                    mine, theirs = mine[:-1], theirs[:-1]  # <|return|> by a slip
            assert mine == theirs
        compared += 1
    assert compared >= 7


def test_the_thinking_message_is_the_data_s_and_has_a_name() -> None:
    record = next(record for record in records() if record.system)
    assert record.system == SYSTEM_MESSAGES["thinking"] == numbers("prompts", "templates.json")["R1_SYSTEM_PROMPT"]
    thinking = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message="thinking").template
    plain = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message="default").template
    assert thinking.prompt("Q") == plain.prompt("Q", record.system) != plain.prompt("Q")


@pytest.mark.parametrize("name", ["internvl2_5", "internvl3_5_gpt_oss"])
def test_rendered_templates_are_exact(name: str) -> None:
    known, ours = numbers("prompts", "templates.json")[name], get_template(name)
    assert ours.prompt("<image>\nWhat is this?") == known["generation_prompt_one_image"]
    assert ours.prompt("What is 3 + 4?") == known["generation_prompt_text_only"]
    assert ours.system == known["system_message"]
    assert get_template(name, "You are a test.").prompt("Hello?") in known["custom_system_full_turn"]
    assert get_template(name, "None").prompt("What is 3 + 4?") == known["null_system_message_text_only"]


def test_a_token_that_only_the_hf_tokenizer_has_is_refused_in_a_text() -> None:
    encoder = load_processor(CHECKPOINTS / "internvl2_5_qwen2_hf").encoder(6, 600, "set_aside")
    with pytest.raises(BadRecord, match="<video>, a token that this model was never given"):
        encoder.prompt_ids("What does <video> mean?", [])


def test_no_answer_takes_a_trained_newline_where_there_is_none() -> None:
    with pytest.raises(InputError, match="'internvl3_5_gpt_oss' has no newline"):
        load_processor(CHECKPOINTS / "internvl3_5_gpt_oss", trained_newline=True)


def test_thinking_is_trained_unless_it_is_only_to_be_read() -> None:
    record = next(record for record in records() if record.system)
    processor = load_processor(CHECKPOINTS / "internvl3_5_qwen3", system_message="default")
    whole = processor.encoder(6, 600, "set_aside").encode(record)
    read = processor.encoder(6, 600, "set_aside", thinking="context").encode(record)
    assert whole.untrained == (0, 0) and torch.equal(whole.chosen_ids, read.chosen_ids)
    for ids, count, text in zip((read.chosen_ids, read.rejected_ids), read.untrained, ("Yes, one", "No."), strict=True):
        thought, said = processor.tokenizer.decode(ids[:count]), processor.tokenizer.decode(ids[count:])
        assert thought.startswith("<think>\n") and thought.endswith("</think>") and said.startswith(f"\n\n{text}")
    with pytest.raises(BadRecord, match="nothing but its thinking"):
        short = processor.encoder(6, len(read.prompt_ids) + read.untrained[0], "truncate", thinking="context")
        short.encode(replace(record, rejected="No."))
    context = processor.encoder(6, 600, "set_aside", thinking="context")
    good = "<think>\nOne and one.\n</think>\n\n2"
    with pytest.raises(BadRecord, match="differ in their thinking alone"):
        context.encode(replace(record, chosen=good, rejected="<think>\nOne.\n</think>\n\n2"))
    with pytest.raises(BadRecord, match="nothing but its thinking"):
        context.encode(replace(record, chosen=good, rejected="<think>\nOne and"))
    cut = processor.encoder(6, len(read.prompt_ids) + 5, "truncate", thinking="context")
    with pytest.raises(BadRecord, match="nothing but its thinking"):
        cut.encode(replace(record, chosen=good, rejected="3"))
    with pytest.raises(InputError, match="needs a tokenizer with <think> and </think>"):
        load_processor(CHECKPOINTS / "internvl2_5_qwen2_hf").encoder(6, 600, "set_aside", thinking="context")
