"""Models of today's families in shapes that the golden checkpoints do not have, through every layout and back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import InternVLForConditionalGeneration

from mpo_lightning.commands.model import convert
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.flops import layer_flops
from mpo_lightning.models.generation import encode_prompt, generate, pad_prompts
from mpo_lightning.models.loading import load_model, load_processor, load_tokenizer, read_config
from mpo_lightning.models.rows.pair_forward import PairForward
from support.golden_now import CHECKPOINTS, stored

YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64}


def six_billion(config: Any) -> None:
    """The tower's kind of InternVL3-38B, 78B and 3.5-38B, 241B."""
    vision = config.vision_config
    vision.use_qk_norm, vision.norm_type, vision.attention_bias = True, "rms_norm", False


SHAPES: dict[str, tuple[str, dict[str, Any], Callable[[Any], None]]] = {
    "one kv head": ("internvl2_5_qwen2", {"num_key_value_heads": 1}, lambda config: None),
    "qwen2, 6B tower": ("internvl2_5_qwen2", {"num_hidden_layers": 3}, six_billion),
    "qwen3, yarn and bias": ("internvl3_5_qwen3", {"rope_parameters": YARN, "attention_bias": True}, six_billion),
    "experts in some layers": (
        "internvl3_5_qwen3_moe",
        {"num_hidden_layers": 4, "mlp_only_layers": [1], "decoder_sparse_step": 2, "num_local_experts": 5},
        lambda config: None,
    ),
    "experts, plain weights": ("internvl3_5_qwen3_moe", {"norm_topk_prob": False}, six_billion),
    "gpt_oss without yarn": (
        "internvl3_5_gpt_oss",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}, "num_key_value_heads": 1},
        lambda config: None,
    ),
    "gpt_oss, all windows": (
        "internvl3_5_gpt_oss",
        {"layer_types": ["sliding_attention"] * 2, "sliding_window": 5, "num_local_experts": 3},
        lambda config: None,
    ),
    "internlm2, three to one": ("internvl2_5_internlm2", {"num_attention_heads": 2}, lambda config: None),
}


def make(tmp_path: Path, name: str) -> Path:
    """A random model of a shape as this package exports it, with the tokenizer and prompt of a golden one."""
    golden, settings, change = SHAPES[name]
    config = read_config(CHECKPOINTS / f"{golden}_hf")
    if golden == "internvl2_5_internlm2":
        config.original_architecture = "InternLM2ForCausalLM"
    text = {key: value for key, value in config.text_config.to_dict().items() if key != "layer_types"} | settings
    if "head_dim" in text and "num_attention_heads" in settings:
        text["head_dim"] = text["hidden_size"] // settings["num_attention_heads"]
    config.text_config = type(config.text_config)(**text)
    change(config)
    torch.manual_seed(0)
    model = InternVLForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    template = "internvl3_5_gpt_oss" if "gpt_oss" in golden else "internvl2_5"
    processor = load_processor(CHECKPOINTS / f"{golden}_hf", template, "none")
    save_folder(model, processor, tmp_path / "start")
    return tmp_path / "start"


def logits(folder: Path) -> torch.Tensor:
    config, generator = read_config(folder), torch.Generator().manual_seed(0)
    ids = torch.randint(0, 400, (2, 30), generator=generator)
    ids[:, 3:7] = config.image_token_id
    side = config.vision_config.image_size[0]
    with torch.no_grad():
        model = InternVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        return model(input_ids=ids, pixel_values=torch.randn(2, 3, side, side, generator=generator)).logits


@pytest.mark.parametrize("name", SHAPES)
def test_every_layout_keeps_bits_logits_and_prompt(tmp_path: Path, name: str) -> None:
    start = make(tmp_path, name)
    convert(str(start), str(tmp_path / "hf"), to="hf")
    convert(str(tmp_path / "hf"), str(tmp_path / "original"), to="opengvlab")
    convert(str(tmp_path / "original"), str(tmp_path / "native"))
    convert(str(tmp_path / "original"), str(tmp_path / "hf again"), to="hf")
    convert(str(start), str(tmp_path / "direct"), to="opengvlab")
    weights, expected = stored(start), logits(start)
    for folder in ("hf", "native", "hf again"):
        ours = stored(tmp_path / folder)
        assert ours.keys() == weights.keys() and all(torch.equal(ours[key], weights[key]) for key in weights)
        torch.testing.assert_close(logits(tmp_path / folder), expected, rtol=0, atol=1e-5)
    one, other = stored(tmp_path / "original"), stored(tmp_path / "direct")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert any("wqkv" in key for key in one) == name.startswith("internlm2")
    texts = ["hello world", "How many?", "<|im_start|>user\nTwo: 2"]
    tokenizers = [load_tokenizer(tmp_path / folder) for folder in ("start", "hf", "original", "native")]
    for text in texts:
        assert len({tuple(tokenizer(text).input_ids) for tokenizer in tokenizers}) == 1
    assert "<video>" not in load_tokenizer(tmp_path / "original").get_vocab()


def test_an_hf_config_has_the_published_names(tmp_path: Path) -> None:
    start = make(tmp_path, "experts in some layers")
    convert(str(start), str(tmp_path / "hf"), to="hf")
    text = json.loads((tmp_path / "hf" / "config.json").read_text())["text_config"]
    published = json.loads((CHECKPOINTS / "internvl3_5_qwen3_moe_hf" / "config.json").read_text())["text_config"]
    unused = {
        "debug",
        "ep_size",
        "micro_forward",
        "skip_checkpoint",
        "use_deepep",
        "_name_or_path",
        "max_window_layers",
    }
    assert text["num_experts"] == 5 and published.keys() - text.keys() <= unused
    assert text.keys() - published.keys() <= {"head_dim", "pad_token_id", "layer_types", "tie_word_embeddings"}


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config["llm_config"])
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("golden", ["internvl2_5_qwen2", "internvl3_5_gpt_oss"])
def test_an_original_config_saved_by_transformers_5_has_its_rope(tmp_path: Path, golden: str) -> None:
    convert(str(CHECKPOINTS / f"{golden}_hf"), str(tmp_path / "original"), to="opengvlab")

    def newer(llm: dict[str, Any]) -> None:
        llm["rope_parameters"] = llm.pop("rope_scaling") | {"rope_theta": llm.pop("rope_theta")}

    expected = read_config(tmp_path / "original").text_config.rope_parameters
    rewrite(tmp_path / "original", newer)
    assert read_config(tmp_path / "original").text_config.rope_parameters == expected


def test_what_a_gpt_oss_config_leaves_out_is_its_own_classs_default(tmp_path: Path) -> None:
    convert(str(CHECKPOINTS / "internvl3_5_gpt_oss_hf"), str(tmp_path / "original"), to="opengvlab")
    rewrite(tmp_path / "original", lambda llm: [llm.pop(key) for key in ("rope_theta", "rope_scaling")])
    text = read_config(tmp_path / "original").text_config
    assert text.rope_parameters["rope_theta"] == 150000 and text.rope_parameters["factor"] == 32
    rewrite(tmp_path / "original", lambda llm: llm.update(rope_scaling=None))
    assert read_config(tmp_path / "original").text_config.rope_parameters["rope_type"] == "default"
    rewrite(tmp_path / "original", lambda llm: llm.update(experts_per_token=llm.pop("num_experts_per_tok")))
    assert read_config(tmp_path / "original").text_config.num_experts_per_tok == 2


def test_a_tied_head_that_is_stored_too_is_dropped(tmp_path: Path) -> None:
    start = make(tmp_path, "one kv head")
    weights = stored(start)
    weights["language_model.lm_head.weight"] = weights["language_model.model.embed_tokens.weight"].clone()
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    path = start / "config.json"
    config = json.loads(path.read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    path.write_text(json.dumps(config))
    for layout in ("hf", "opengvlab"):
        convert(str(start), str(tmp_path / layout), to=layout)
        assert not any("lm_head" in key for key in stored(tmp_path / layout))
    assert torch.equal(logits(tmp_path / "hf"), logits(start))


def test_a_setting_that_a_layout_cannot_express_is_refused(tmp_path: Path) -> None:
    start = make(tmp_path, "gpt_oss, all windows")
    path = start / "config.json"
    config = json.loads(path.read_text())
    for part, key, value in ((None, "vision_feature_layer", -2), ("text_config", "swiglu_alpha", 1.1)):
        changed = json.loads(json.dumps(config))
        (changed if part is None else changed[part])[key] = value
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=f"{key} is {value}, which the original layout cannot express"):
            convert(str(start), str(tmp_path / "original"), to="opengvlab")


def test_a_projector_in_another_dtype_keeps_it(tmp_path: Path) -> None:
    """OpenGVLab's 3.5 code makes the projector in bfloat16 whatever dtype is asked for."""
    start = make(tmp_path, "one kv head")
    weights = {key: value.bfloat16() if "projector" in key else value for key, value in stored(start).items()}
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    convert(str(start), str(tmp_path / "original"), to="opengvlab")
    convert(str(tmp_path / "original"), str(tmp_path / "native"))
    back = stored(tmp_path / "native")
    assert all(back[key].dtype == value.dtype and torch.equal(back[key], value) for key, value in weights.items())
    assert load_model(tmp_path / "native").dtype == torch.float32


def test_a_folder_without_its_dynamic_rope_still_asks_what_its_files_leave_open(tmp_path: Path) -> None:
    convert(str(CHECKPOINTS / "internvl2_5_qwen2"), str(tmp_path / "plain"), dynamic_rope=False)
    assert read_config(tmp_path / "plain").text_config.rope_parameters["rope_type"] == "default"
    assert (tmp_path / "plain" / "original" / "config.json").is_file()
    with pytest.raises(InputError, match="disagree about the system message"):
        load_processor(tmp_path / "plain")


def test_a_model_in_training_answers_one_prompt_several_times() -> None:
    folder = CHECKPOINTS / "internvl3_5_gpt_oss"
    processor = load_processor(folder)
    batch = pad_prompts([encode_prompt(processor.encoder(1, 10**4, "set_aside"), Prompt("What is 3 + 4?", ()))])
    plain = generate(load_model(folder), processor, batch, 6)
    inside = generate(PairForward(load_model(folder)), processor, batch, 6, rows=[0, 0])
    assert [answer.text for answer in inside] == [plain[0].text] * 2


def test_flops_of_a_mixture_count_the_layers_that_have_one(tmp_path: Path) -> None:
    config = read_config(make(tmp_path, "experts in some layers"))
    sparse = layer_flops(config, 1)
    config.text_config.decoder_sparse_step, config.text_config.mlp_only_layers = 1, [0, 1, 2]
    assert layer_flops(config, 1) == sparse
    config.text_config.mlp_only_layers = []
    assert layer_flops(config, 1) != sparse
