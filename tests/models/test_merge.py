"""Adapters in peft's layout, merged: the same logits as peft's own model, and nothing that was made for another."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from mpo_lightning.commands.model import merge
from mpo_lightning.data.batch import collate
from mpo_lightning.errors import InputError
from mpo_lightning.models.internals import adapters_off
from mpo_lightning.models.loading import load_model
from mpo_lightning.models.lora import Lora, add_adapters, merged_weights, save_adapter
from mpo_lightning.models.rows.pair_forward import PairForward
from support.families import TILE_SIZE, family_model, random_pairs


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> Path:
    """As somebody else trains one with peft."""
    torch.manual_seed(0)
    options = LoraConfig(r=4, lora_alpha=16, target_modules=r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w*proj")
    model = get_peft_model(load_model(tiny_folder), options)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_merged_model_has_the_logits_of_model_and_adapter(adapter: Path, tiny_folder: Path, tmp_path: Path) -> None:
    merge(str(tiny_folder), str(adapter), str(tmp_path / "merged"))
    ids = torch.arange(40, 80)[None]
    base, ours = load_model(tiny_folder), load_model(tmp_path / "merged")
    with torch.no_grad():
        before = base(input_ids=ids).logits
        after = ours(input_ids=ids).logits
        torch.testing.assert_close(
            after, PeftModel.from_pretrained(base, adapter)(input_ids=ids).logits, rtol=0, atol=1e-5
        )
    assert (after - before).abs().max() > 0.05
    assert (tmp_path / "merged" / "chat_template.jinja").is_file()


def test_our_own_adapter_merges_to_our_own_export(tiny_folder: Path, tmp_path: Path) -> None:
    model, options = load_model(tiny_folder), Lora(rank=4)
    add_adapters(model, options)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(options, model.state_dict(), str(tiny_folder), tmp_path / "adapter")
    merge(str(tiny_folder), str(tmp_path / "adapter"), str(tmp_path / "merged"))
    again = load_model(tmp_path / "merged").state_dict()
    for name, value in merged_weights(model, model.state_dict()).items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=1e-6)


def test_an_adapter_that_does_not_fit_is_refused(adapter: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "merged")
    with pytest.raises(InputError, match=r"adapter_config\.json is missing"):
        merge(str(tiny_folder), str(tiny_folder), out)
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=f"the adapter lacks {name}"):
        merge(str(tiny_folder), str(adapter), out)
    save_file(tensors | {name: torch.zeros(4, 7)}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match="does not fit"):
        merge(str(tiny_folder), str(adapter), out)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["wqkv"]}))
    with pytest.raises(InputError, match="does not fit"):
        merge(str(tiny_folder), str(adapter), out)
    assert not Path(out).exists()


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_adapters_of_experts_train_and_merge_as_pefts_own(family: str) -> None:
    """A step changes every expert that was reached; merged, the weights give the adapted model's log-probs."""
    model = family_model(family, torch.float32)
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    add_adapters(model, Lora(rank=2, dropout=0.0, experts=True))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("experts" in name for name in trained) and all("lora_" in name for name in trained)
    batch = collate(random_pairs([(1, 9, 7, 5), (0, 8, 6, 9)]), TILE_SIZE)
    forward = PairForward(model)
    start = forward(batch)[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted = forward(batch)[0]
    assert (adapted.chosen - start.chosen).abs().min() > 1e-3
    with adapters_off(model):
        torch.testing.assert_close(forward(batch)[0].chosen, start.chosen)
    adapted.chosen.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    merged = merged_weights(model, model.state_dict())
    assert merged.keys() == frozen.keys()
    plain = family_model(family, torch.float32)
    plain.load_state_dict(merged)
    torch.testing.assert_close(PairForward(plain)(batch)[0].chosen, adapted.chosen, rtol=1e-5, atol=1e-4)
    changed = {name for name, value in merged.items() if not torch.equal(value, frozen[name])}
    assert any("experts.down_proj" in name for name in changed) and not any("router" in name for name in changed)


def test_experts_keep_their_weights_unless_they_are_named() -> None:
    model = family_model("qwen3_moe")
    add_adapters(model, Lora(rank=2))
    adapted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert adapted and all(".self_attn." in name for name in adapted)
    with pytest.raises(InputError, match=r"lora\.experts needs lora\.dropout 0"):
        Lora(experts=True)
    with pytest.raises(InputError, match=r"lora\.experts is for a mixture of experts"):
        add_adapters(family_model("qwen3"), Lora(dropout=0.0, experts=True))
