"""The golden checkpoints (original OpenGVLab layout, tiny) through the product's own conversion."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from mpo_lightning.models.internvl.native_tensors import native_shapes
from mpo_lightning.models.internvl.opengvlab.names import disk_name, pack, tensor_maps
from mpo_lightning.models.loading import load_model

NAMES = ("internlm2_gqa", "qwen2_bias", "llama_vit6b", "phi3_fused")


def original_tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of a golden folder."""
    return {
        name: tensor for path in sorted(folder.glob("model*.safetensors")) for name, tensor in load_file(path).items()
    }


def copy_golden(source: Path, target: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    """A golden folder as a user downloads it, in one weight file, some tensors replaced."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if not path.name.startswith("golden") and ".safetensors" not in path.name:
            shutil.copyfile(path, target / path.name)
    save_file(original_tensors(source) | (tensors or {}), target / "model.safetensors")
    return target


def golden_model(folder: Path, overrides: dict[str, Tensor] | None = None) -> InternVLForConditionalGeneration:
    """The model of a golden checkpoint folder in float32 eager attention, some original tensors replaced."""
    tensors = {name: tensor.float() for name, tensor in (original_tensors(folder) | (overrides or {})).items()}
    with tempfile.TemporaryDirectory() as work:
        model = load_model(copy_golden(folder, Path(work) / folder.name, tensors))
    model.set_attn_implementation("eager")
    return model


def gradients_by_original_name(
    model: InternVLForConditionalGeneration, names: list[str], folder: Path
) -> dict[str, Tensor]:
    """The model's gradients of original tensors."""
    llm = json.loads((folder / "config.json").read_text())["llm_config"]
    gradients: dict[str, Tensor | None] = {}
    for name, parameter in model.named_parameters():
        layer, fused, part = disk_name(name).partition(".mlp.experts.")
        if not fused or llm["architectures"][0] != "Qwen3MoeForCausalLM" or parameter.grad is None:
            gradients[disk_name(name)] = parameter.grad
            continue
        for expert, gradient in enumerate(parameter.grad):
            names_of = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
            for one, piece in zip(names_of, gradient.chunk(len(names_of)), strict=True):
                gradients[f"{layer}.mlp.experts.{expert}.{one}.weight"] = piece
    maps = tensor_maps(llm["architectures"][0], llm["num_hidden_layers"], set(native_shapes(model.config)))
    packed = {
        one.original: pack(tuple(gradients[name] for name in one.native), one.packing, llm["num_key_value_heads"])
        for one in maps
        if one.original in names
    }
    assert set(packed) == set(names) and all(isinstance(gradient, torch.Tensor) for gradient in packed.values())
    return packed
