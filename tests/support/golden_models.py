"""The golden checkpoints (original OpenGVLab layout, tiny) as native transformers models. For tests only."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, LlamaConfig, Qwen2Config

VISION = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding": "embeddings.patch_embeddings.projection",
    "encoder.layers.": "encoder.layer.",
    "attn.proj": "attention.projection_layer",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
PROJECTOR = {"mlp1.0": "layer_norm", "mlp1.1": "linear_1", "mlp1.3": "linear_2"}
INTERNLM2 = {
    "tok_embeddings": "embed_tokens",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def native_tensors(name: str, tensor: Tensor, heads: int, kv_heads: int) -> dict[str, Tensor]:
    """The native tensors that one original tensor becomes."""
    if name.startswith("vision_model."):
        name = name.removeprefix("vision_model.")
        for old, new in VISION.items():
            name = name.replace(old, new)
        name = f"model.vision_tower.{name}"
        if "attn.qkv" in name:
            return {
                name.replace("attn.qkv", f"attention.{part}_proj"): piece
                for part, piece in zip("qkv", tensor.chunk(3), strict=True)
            }
        return {name: tensor}
    if name.startswith("mlp1."):
        old = name[:6]
        return {name.replace(old, f"model.multi_modal_projector.{PROJECTOR[old]}"): tensor}
    if name in ("language_model.output.weight", "language_model.lm_head.weight"):
        return {"lm_head.weight": tensor}
    name = name.replace("language_model.model.", "model.language_model.")
    for old, new in INTERNLM2.items():
        name = name.replace(old, new)
    if "attention.wqkv" in name:
        grouped = tensor.view(kv_heads, heads // kv_heads + 2, -1, tensor.shape[-1])
        parts = {"q": grouped[:, :-2], "k": grouped[:, -2:-1], "v": grouped[:, -1:]}
        return {
            name.replace("attention.wqkv", f"self_attn.{part}_proj"): piece.reshape(-1, tensor.shape[-1])
            for part, piece in parts.items()
        }
    return {name: tensor}


def golden_model(folder: Path, overrides: dict[str, Tensor] | None = None) -> InternVLForConditionalGeneration:
    """The model of a golden checkpoint folder in float32 eager attention, some original tensors replaced."""
    config = json.loads((folder / "config.json").read_text())
    llm, vit = config["llm_config"], config["vision_config"]
    internlm = llm["architectures"][0].startswith("InternLM2")
    shared = {key: llm[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                        "num_key_value_heads", "max_position_embeddings", "rms_norm_eps")}  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": float(llm["rope_theta"])}
    if internlm:
        rope |= {"rope_type": "dynamic", "factor": llm["rope_scaling"]["factor"]}
    text = (LlamaConfig if internlm else Qwen2Config)(**shared, rope_parameters=rope, tie_word_embeddings=False, pad_token_id=None)
    vision = InternVLVisionConfig(
        **{
            key: vit[key]
            for key in (
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "layer_norm_eps",
                "norm_type",
            )
        },
        image_size=[vit["image_size"]] * 2,
        patch_size=[vit["patch_size"]] * 2,
        attention_bias=vit["qkv_bias"],
        use_qk_norm=vit["qk_normalization"],
    )
    image_token = json.loads((folder / "added_tokens.json").read_text())["<IMG_CONTEXT>"]
    native = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=image_token, image_seq_length=4, tie_word_embeddings=False
    )
    original = {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}
    original |= overrides or {}
    state: dict[str, Tensor] = {}
    for name, tensor in original.items():
        state |= native_tensors(name, tensor.float(), llm["num_attention_heads"], llm["num_key_value_heads"])
    model = InternVLForConditionalGeneration(native)
    model.load_state_dict(state, strict=True)
    model.set_attn_implementation("eager")
    return model.eval()


def gradients_by_original_name(model: InternVLForConditionalGeneration, names: list[str], folder: Path) -> dict[str, Tensor]:
    """The model's gradients of original tensors: what `native_tensors` does, read backwards through the same names."""
    llm = json.loads((folder / "config.json").read_text())["llm_config"]
    heads, kv_heads = llm["num_attention_heads"], llm["num_key_value_heads"]
    mine = dict(model.named_parameters())
    found = {}
    for name in names:
        # A tensor of running numbers shows where each element of the original went.
        shapes = {key: value.shape for key, value in mine.items()}
        if "wqkv" in name:
            hidden = llm["hidden_size"]
            count = (heads + 2 * kv_heads) * (hidden // heads) * hidden
            numbers = torch.arange(count).view(-1, hidden)
        elif "attn.qkv" in name:
            base = name.replace("attn.qkv", "attention.q_proj").replace(
                "vision_model.encoder.layers.", "model.vision_tower.encoder.layer."
            )
            shape = list(shapes[base])
            numbers = torch.arange(3 * mine[base].numel()).view(3 * shape[0], *shape[1:])
        else:
            (key,) = native_tensors(name, torch.zeros(1), heads, kv_heads)
            numbers = torch.arange(mine[key].numel()).view(shapes[key])
        gradient = torch.zeros(numbers.numel())
        for key, places in native_tensors(name, numbers, heads, kv_heads).items():
            gradient[places.flatten()] = mine[key].grad.flatten()
        found[name] = gradient.view(numbers.shape)
    return found
