"""Writes a transformers `InternVLConfig` as the config of the original layout."""

from typing import Any

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.opengvlab.config import FAMILIES, TEXT_KEYS, TOKEN_IDS, VISION_KEYS

INTERNLM2 = "InternLM2ForCausalLM"

NEWER = ("qwen3", "qwen3_moe", "gpt_oss")
"""Language models of InternVL3.5, whose code runs with transformers 4.55."""


def original_config(native: Any) -> dict[str, Any]:
    """Converts a native config to an original one, with the settings that decide the arithmetic.

    Raises:
        InputError: the language model is not of a known family.
    """
    text, vision = native.text_config, native.vision_config
    # The published -hf folders of InternLM2 keep its class in text_config, though the native one is Llama's.
    named = [getattr(native, "original_architecture", None), *(getattr(text, "architectures", None) or ())]
    plain = [name for name, kind in FAMILIES.items() if kind.model_type == text.model_type and name != INTERNLM2]
    architecture = next((name for name in (*named, *plain) if name in FAMILIES), None)
    if architecture is None:
        raise InputError(f"the language model is a {text.model_type}; the original layout has {', '.join(FAMILIES)}")
    internlm2 = architecture == INTERNLM2
    # Without the key, Qwen2 of transformers 4.37 takes a window of 4096.
    nulls = (*TOKEN_IDS, *(["sliding_window"] if hasattr(text, "sliding_window") else []))
    llm = {key: getattr(text, key) for key in TEXT_KEYS if getattr(text, key, None) is not None or key in nulls}
    if text.model_type == "gpt_oss":
        del llm["num_experts"]  # another name of num_local_experts
    llm |= {"architectures": [architecture], "model_type": "internlm2" if internlm2 else text.model_type}
    llm |= {"tie_word_embeddings": native.tie_word_embeddings, **_original_rope(text.rope_parameters, text.model_type)}
    if internlm2:
        llm["bias"] = llm.pop("attention_bias", False)
    dtype = str(getattr(native, "dtype", None) or "float32").removeprefix("torch.")
    tower = {old: getattr(vision, new) for old, new in VISION_KEYS.items() if hasattr(vision, new)}
    tower |= {"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "drop_path_rate": 0.0}
    tower |= {"image_size": vision.image_size[0], "patch_size": vision.patch_size[0], "torch_dtype": dtype}
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": native.downsample_ratio,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
        "force_image_size": vision.image_size[0],
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "template": getattr(native, "template", None),
        "torch_dtype": dtype,
        "llm_config": llm | {"torch_dtype": dtype},
        "vision_config": tower,
    }


def _original_rope(rope: dict[str, Any], model_type: str) -> dict[str, Any]:
    kind = rope.get("rope_type", "default")
    apart = ("rope_theta", "rope_type", "type", "original_max_position_embeddings", "partial_rotary_factor")
    scaling = {key: value for key, value in rope.items() if key not in apart}
    found: dict[str, Any] = {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None}
    if kind == "longrope" and model_type == "phi3":
        found["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
        found["rope_scaling"] = scaling | {"type": "su"}
    elif kind != "default":
        if "original_max_position_embeddings" in rope:
            scaling["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
        # Classes of transformers 4.37 take "type" and refuse any other key but "factor"; later ones take "rope_type".
        names = {"qwen2": ("rope_type", "type")}.get(model_type, ("rope_type",) if model_type in NEWER else ("type",))
        found["rope_scaling"] = scaling | dict.fromkeys(names, kind)
    return found
