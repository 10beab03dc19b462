"""Maps tensor names between the original layout and transformers': a literal table, read in both directions.

Every original tensor becomes one native tensor, or three if it packs query, key and value. Names omit `.weight` and
`.bias`; `{n}` is the layer number. Language models other than InternLM2 are transformers' own in both layouts, so their
tensors keep their names. Native names are those on disk, which differ from a loaded model's by `DISK_PREFIXES` and, for
Qwen3-MoE, in the experts: one tensor for each on disk, one for all in memory.

Source: InternVL `internvl_chat/internvl/model` (modeling_intern_vit.py, modeling_internvl_chat.py,
internlm2/modeling_internlm2.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Packing = Literal["none", "thirds", "groups"]
"""thirds: q, then k, then v. groups: for each key-value head its query heads, then k, then v."""

VISION: tuple[tuple[str, str], ...] = (
    ("vision_model.embeddings.class_embedding", "vision_tower.embeddings.cls_token"),
    ("vision_model.embeddings.position_embedding", "vision_tower.embeddings.position_embeddings"),
    ("vision_model.embeddings.patch_embedding", "vision_tower.embeddings.patch_embeddings.projection"),
    ("vision_model.encoder.layers.{n}.norm1", "vision_tower.encoder.layer.{n}.layernorm_before"),
    ("vision_model.encoder.layers.{n}.norm2", "vision_tower.encoder.layer.{n}.layernorm_after"),
    ("vision_model.encoder.layers.{n}.ls1", "vision_tower.encoder.layer.{n}.lambda_1"),
    ("vision_model.encoder.layers.{n}.ls2", "vision_tower.encoder.layer.{n}.lambda_2"),
    ("vision_model.encoder.layers.{n}.attn.q_norm", "vision_tower.encoder.layer.{n}.attention.q_norm"),
    ("vision_model.encoder.layers.{n}.attn.k_norm", "vision_tower.encoder.layer.{n}.attention.k_norm"),
    ("vision_model.encoder.layers.{n}.attn.proj", "vision_tower.encoder.layer.{n}.attention.projection_layer"),
    ("vision_model.encoder.layers.{n}.mlp.fc1", "vision_tower.encoder.layer.{n}.mlp.fc1"),
    ("vision_model.encoder.layers.{n}.mlp.fc2", "vision_tower.encoder.layer.{n}.mlp.fc2"),
    ("mlp1.0", "multi_modal_projector.layer_norm"),
    ("mlp1.1", "multi_modal_projector.linear_1"),
    ("mlp1.3", "multi_modal_projector.linear_2"),
)
VISION_QKV = ("vision_model.encoder.layers.{n}.attn.qkv", "vision_tower.encoder.layer.{n}.attention.{p}_proj")

INTERNLM2: tuple[tuple[str, str], ...] = (
    ("language_model.model.tok_embeddings", "language_model.model.embed_tokens"),
    ("language_model.model.layers.{n}.attention.wo", "language_model.model.layers.{n}.self_attn.o_proj"),
    ("language_model.model.layers.{n}.feed_forward.w1", "language_model.model.layers.{n}.mlp.gate_proj"),
    ("language_model.model.layers.{n}.feed_forward.w3", "language_model.model.layers.{n}.mlp.up_proj"),
    ("language_model.model.layers.{n}.feed_forward.w2", "language_model.model.layers.{n}.mlp.down_proj"),
    ("language_model.model.layers.{n}.attention_norm", "language_model.model.layers.{n}.input_layernorm"),
    ("language_model.model.layers.{n}.ffn_norm", "language_model.model.layers.{n}.post_attention_layernorm"),
    ("language_model.model.norm", "language_model.model.norm"),
    ("language_model.output", "language_model.lm_head"),
)
INTERNLM2_QKV = ("language_model.model.layers.{n}.attention.wqkv", "language_model.model.layers.{n}.self_attn.{p}_proj")

DISK_PREFIXES = (
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("lm_head.", "language_model.lm_head."),
)
"""Name prefixes in a loaded transformers model, and in the files that it saves."""


@dataclass(frozen=True)
class TensorMap:
    """An original tensor and the native tensors it becomes.

    Attributes:
        original: name of the original tensor.
        native: one name, or the names of query, key and value.
        packing: packing of the original tensor.
    """

    original: str
    native: tuple[str, ...]
    packing: Packing = "none"


def disk_name(name: str) -> str:
    """Returns a native tensor's name on disk, from that name or from its name in a loaded model."""
    for loaded, disk in DISK_PREFIXES:
        if name.startswith(loaded):
            return disk + name.removeprefix(loaded)
    return name


def disk_shapes(name: str, shape: tuple[int, ...], fused_experts: bool) -> dict[str, tuple[int, ...]]:
    """Returns the shapes by name on disk of one tensor of a loaded model.

    Args:
        name: name of the tensor in a loaded model.
        shape: shape of the tensor in a loaded model.
        fused_experts: whether the model fuses experts that are one tensor each on disk.
    """
    name = disk_name(name)
    layer, found, part = name.partition(".mlp.experts.")
    if not fused_experts or not found:
        return {name: shape}
    experts, rows, columns = shape
    parts = {"gate_proj": rows // 2, "up_proj": rows // 2} if part == "gate_up_proj" else {part: rows}
    return {
        f"{layer}.mlp.experts.{number}.{one}.weight": (size, columns)
        for number in range(experts)
        for one, size in parts.items()
    }


def tensor_maps(architecture: str, layers: int, native: set[str]) -> list[TensorMap]:
    """Returns the table for one model, with layer numbers filled in.

    Args:
        architecture: class of the original language model, such as InternLM2ForCausalLM.
        layers: number of layers of the deeper of tower and language model.
        native: disk names of all tensors of the native model; rules for other tensors are left out.
    """
    internlm2 = architecture == "InternLM2ForCausalLM"
    maps = [TensorMap(old, (new,)) for old, new in _filled(VISION + INTERNLM2 * internlm2, layers) if new in native]
    if not internlm2:
        maps += [TensorMap(name, (name,)) for name in sorted(native) if name.startswith("language_model.")]
    packed: list[tuple[tuple[str, str], Packing]] = [(VISION_QKV, "thirds")]
    if internlm2:
        packed.append((INTERNLM2_QKV, "groups"))
    for rule, packing in packed:
        for old, new in _filled((rule,), layers):
            parts = tuple(new.replace("{p}", part) for part in "qkv")
            if set(parts) <= native:
                maps.append(TensorMap(old, parts, packing))
    found = [name for one in maps for name in one.native]
    assert len(found) == len(set(found)) and set(found) == native, sorted(set(found) ^ native)[:3]
    return maps


def _filled(rules: tuple[tuple[str, str], ...], layers: int) -> Iterator[tuple[str, str]]:
    for old, new in rules:
        for number in range(layers if "{n}" in old else 1):
            for suffix in (".weight", ".bias", ""):
                yield old.replace("{n}", str(number)) + suffix, new.replace("{n}", str(number)) + suffix


def unpack(tensor: Tensor, packing: Packing, heads: int, kv_heads: int) -> tuple[Tensor, ...]:
    """Splits an original tensor into its native tensors.

    Args:
        tensor: original tensor [rows, ...].
        packing: packing of the tensor.
        heads: query heads of the language model.
        kv_heads: key-value heads of the language model.
    """
    if packing == "none":
        return (tensor,)
    if packing == "thirds":
        return tensor.chunk(3)
    rest, group = tensor.shape[1:], heads // kv_heads
    grouped = tensor.view(kv_heads, group + 2, -1, *rest)
    return tuple(part.reshape(-1, *rest) for part in grouped.split([group, 1, 1], dim=1))


def pack(parts: tuple[Tensor, ...], packing: Packing, kv_heads: int) -> Tensor:
    """Packs native tensors into the original one; the inverse of `unpack`."""
    if packing == "none":
        return parts[0]
    if packing == "thirds":
        return torch.cat(parts)
    query, key, value = parts
    rest, size = query.shape[1:], len(key) // kv_heads
    grouped = [part.view(kv_heads, -1, size, *rest) for part in (query, key, value)]
    return torch.cat(grouped, dim=1).reshape(-1, *rest)


def packed_shape(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Returns the original tensor's shape from the native shapes."""
    return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
