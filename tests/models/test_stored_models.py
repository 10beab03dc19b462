"""Model folders as they are found: what would be loaded wrongly is refused; a dtype and a tile limit stay."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from mpo_lightning.commands.model import convert, export, merge
from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.models.loading import empty_model, load_model, load_processor, stored_dtype
from mpo_lightning.models.tensor_files import stored_tensors
from mpo_lightning.training import ExportPolicy, StepCheckpoint
from support.runs import make_run

LAYERS = r".*language_model\.layers\.\d+\.(self_attn|mlp)\.\w*proj"


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The tiny model in bfloat16, as released models are."""
    folder = tmp_path / "half"
    write_tiny_model(folder)
    weights = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("take", [load_model, empty_model, load_processor])
def test_a_stray_adapter_is_not_loaded_with_the_model(model: Path, take) -> None:
    adapter = get_peft_model(load_model(model), LoraConfig(r=2, target_modules=LAYERS))
    adapter.save_pretrained(model)
    with pytest.raises(InputError, match=r"there is an adapter_config\.json, which would be .*'mpo model merge'"):
        take(model)
    (model / "config.json").unlink()
    with pytest.raises(InputError, match=r"there is an adapter_config\.json, but no model; .*'mpo model merge'"):
        take(model)


@pytest.mark.parametrize(
    ("quantized", "said"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "gptq"}, "gptq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"load_in_8bit": True}, "unknown"),
        ("fp8", "unknown"),
    ],
)
def test_a_quantized_model_is_named(model: Path, quantized: object, said: str) -> None:
    text = json.loads((model / "config.json").read_text())["text_config"]
    for where in ({"quantization_config": quantized}, {"text_config": text | {"quantization_config": quantized}}):
        set_config(model, **({"quantization_config": None} | where))
        with pytest.raises(InputError, match=r"its weights are quantized \("):
            load_processor(model)
    with pytest.raises(InputError, match=rf"its weights are quantized \({said}\); train the model that it was made"):
        load_model(model)


def test_a_tensor_in_two_files_is_refused(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    name = next(iter(weights))
    (model / "model.safetensors").unlink()
    save_file(weights, model / "a.safetensors", metadata={"format": "pt"})
    save_file({name: weights[name] + 1}, model / "b.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"is in two files, a\.safetensors and b\.safetensors; remove one"):
        load_model(model)


@pytest.mark.parametrize(("asked", "stored"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_an_export_has_the_dtype_of_the_start(half: Path, shards: Path, tmp_path: Path, asked, stored) -> None:
    run = tmp_path / "run"
    callbacks = [ExportPolicy(dtype=asked), StepCheckpoint(every_n_train_steps=1)]
    trainer, module, data = make_run(
        run, half, shards / "train", data={"max_tiles": 1}, trainer={"max_steps": 1, "callbacks": callbacks}
    )
    trainer.fit(module, data)
    (saved,) = run.rglob("*step=1.ckpt")
    export(str(saved), str(tmp_path / "later"), dtype=asked)
    for folder in (run / "version_0/export", tmp_path / "later"):
        assert {tensor.dtype for tensor in stored_tensors(folder).values()} == {stored} == {stored_dtype(folder)}
        assert json.loads((folder / "config.json").read_text())["dtype"] == str(stored)[6:]
        for name, value in load_model(folder).state_dict().items():
            trained = module.policy.model.state_dict()[name]
            assert torch.equal(value, trained.to(stored).float()), name


def test_an_export_has_the_tile_limit_of_its_run_in_both_layouts(half: Path, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    callbacks = [ExportPolicy(), StepCheckpoint(every_n_train_steps=1)]
    trainer, module, data = make_run(
        run, half, shards / "train", data={"max_tiles": 3}, trainer={"max_steps": 1, "callbacks": callbacks}
    )
    trainer.fit(module, data)
    exported = run / "version_0/export"
    (saved,) = run.rglob("*step=1.ckpt")
    export(str(saved), str(tmp_path / "later"))
    convert(str(exported), str(tmp_path / "original"), "opengvlab")
    convert(str(tmp_path / "original"), str(tmp_path / "back"))
    assert json.loads((tmp_path / "original/config.json").read_text())["max_dynamic_patch"] == 3
    for folder in (exported, tmp_path / "later", tmp_path / "back"):
        assert json.loads((folder / "preprocessor_config.json").read_text())["max_patches"] == 3
        assert load_processor(folder).max_tiles == 3
    assert "| images | at most 3 tiles" in (exported / "README.md").read_text()
    assert load_processor(half).max_tiles == 12


def adapted(folder: Path, output: Path, options, **more: float) -> Path:
    """An adapter of any kind, with weights that change something."""
    torch.manual_seed(0)
    wrapped = get_peft_model(load_model(folder), options)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, mean=more.get("mean", 0.0), std=0.05)
    wrapped.save_pretrained(output)
    return output


def test_a_merge_keeps_the_dtype_of_the_model(half: Path, tmp_path: Path) -> None:
    adapter = adapted(half, tmp_path / "adapter", LoraConfig(r=2, target_modules=LAYERS))
    for dtype, stored in (("auto", torch.bfloat16), ("float32", torch.float32)):
        merge(str(half), str(adapter), str(tmp_path / dtype), dtype)
        assert stored_dtype(tmp_path / dtype) == stored
    exact, rounded = (load_model(tmp_path / name).state_dict() for name in ("float32", "auto"))
    assert all(torch.equal(value.bfloat16().float(), rounded[name]) for name, value in exact.items())


def kinds() -> dict:
    from peft import IA3Config, LoHaConfig, OFTConfig, VeraConfig

    one = r".*language_model\.layers\.\d+\.self_attn\.q_proj"
    mlp = r".*language_model\.layers\.\d+\.mlp\.down_proj"
    return {
        "LoRA": (LoraConfig(r=2, target_modules=one), 4),
        "LoRA with biases": (LoraConfig(r=2, target_modules=one, bias="lora_only"), 8),
        "LoRA and a whole module": (LoraConfig(r=2, target_modules=one, modules_to_save=["lm_head"]), 5),
        "IA3": (IA3Config(target_modules=f"{one}|{mlp}", feedforward_modules=mlp), 8),
        "LoHa": (LoHaConfig(r=2, target_modules=one), 4),
        "OFT": (OFTConfig(oft_block_size=4, target_modules=one), 4),
        "VeRA": (VeraConfig(r=2, target_modules=one), 4),
    }


@pytest.mark.parametrize("name", kinds())
def test_the_number_of_changed_weights_is_that_of_any_kind(
    name: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options, expected = kinds()[name]
    adapter = adapted(tiny_folder, tmp_path / "adapter", options, mean=1.0 if name == "IA3" else 0.0)
    merge(str(tiny_folder), str(adapter), str(tmp_path / "merged"))
    assert f"merged: {expected} weights changed" in capsys.readouterr().out
    before, after = (load_model(folder).state_dict() for folder in (tiny_folder, tmp_path / "merged"))
    assert sum(not torch.equal(value, after[key]) for key, value in before.items()) == expected


def test_a_merge_writes_no_infinities(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = adapted(tiny_folder, tmp_path / "adapter", LoraConfig(r=2, target_modules=LAYERS))
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = min(name for name in tensors if "lora_B" in name)
    save_file(tensors | {name: tensors[name] + 1e7}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"holds numbers that are not finite in float16; choose a dtype"):
        merge(str(tiny_folder), str(adapter), str(tmp_path / "merged"), "float16")
    save_file(tensors | {name: tensors[name] * float("nan")}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"holds numbers that are not finite in float32"):
        merge(str(tiny_folder), str(adapter), str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
def test_an_adapter_of_the_prompt_cannot_be_merged(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    import peft

    options = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=2, base_model_name_or_path="x")
    options.save_pretrained(tmp_path / "adapter")
    save_file({"prompt_embeddings": torch.zeros(2, 8)}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"adds tokens to the prompt, so it cannot be merged"):
        merge(str(tiny_folder), str(tmp_path / "adapter"), str(tmp_path / "merged"))


@pytest.fixture
def tied(model: Path) -> Path:
    """The tiny model with one weight for its head and its embeddings."""
    config = json.loads((model / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (model / "config.json").write_text(json.dumps(config))
    weights = load_file(model / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("lm_head.weight"))]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.mark.parametrize(
    "options",
    [
        LoraConfig(r=2, target_modules=["lm_head"]),
        LoraConfig(r=2, target_modules=["embed_tokens"]),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
        LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    ],
    ids=["head", "embeddings", "whole head", "whole embeddings"],
)
def test_an_adapter_of_a_shared_weight_is_refused(tied: Path, tmp_path: Path, options: LoraConfig) -> None:
    adapter = adapted(tied, tmp_path / "adapter", options)
    with pytest.raises(
        InputError, match=r"the adapter changes .*(lm_head|embed_tokens), whose weight this model shares"
    ):
        merge(str(tied), str(adapter), str(tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


def test_another_adapter_of_a_tied_model_is_merged(tied: Path, tmp_path: Path) -> None:
    adapter = adapted(tied, tmp_path / "adapter", LoraConfig(r=2, target_modules=LAYERS))
    merge(str(tied), str(adapter), str(tmp_path / "merged"))
    assert load_model(tmp_path / "merged").config.tie_word_embeddings
    assert not any("lm_head" in name for name in stored_tensors(tmp_path / "merged"))
