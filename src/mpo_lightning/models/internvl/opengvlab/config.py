"""Converts an original config to transformers' `InternVLConfig` and back.

Literal tables map the settings that decide the arithmetic; settings that the native classes cannot express are refused.
The native config keeps the class of the original language model (`original_architecture`), because an InternLM2 becomes
a Llama and has to be converted back.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    GptOssConfig,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from mpo_lightning.errors import InputError

FAMILIES: dict[str, Any] = {
    "InternLM2ForCausalLM": LlamaConfig,
    "LlamaForCausalLM": LlamaConfig,
    "Qwen2ForCausalLM": Qwen2Config,
    "Phi3ForCausalLM": Phi3Config,
    "Qwen3ForCausalLM": Qwen3Config,
    "Qwen3MoeForCausalLM": Qwen3MoeConfig,
    "GptOssForCausalLM": GptOssConfig,
}
"""Config class of the native language model for each class of the original one."""

TEXT_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "initializer_range",
    "attention_dropout",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "resid_pdrop",
    "embd_pdrop",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "use_cache",
    # experts
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
    "experts_per_token",
    "moe_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
    "router_aux_loss_coef",
    "swiglu_limit",
    "initial_context_length",
)
"""Language model settings with the same name and meaning in both layouts."""

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Settings that may be null."""

VISION_KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_channels": "num_channels",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_act": "hidden_act",
    "norm_type": "norm_type",
    "initializer_range": "initializer_range",
    "attention_dropout": "attention_dropout",
    "dropout": "hidden_dropout_prob",
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
}
"""Vision settings, original name to native name."""


ORIGINAL_DEFAULTS: dict[str, dict[str, Any]] = {
    "chat": {"ps_version": "v1", "select_layer": -1, "downsample_ratio": 0.5},
    "vision": {
        "num_channels": 3,
        "patch_size": 14,
        "image_size": 224,
        "qkv_bias": False,
        "hidden_size": 3200,
        "num_attention_heads": 25,
        "intermediate_size": 12800,
        "qk_normalization": True,
        "num_hidden_layers": 48,
        "hidden_act": "gelu",
        "norm_type": "rms_norm",
        "layer_norm_eps": 1e-6,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
    },
    "InternLM2ForCausalLM": {
        "vocab_size": 103168,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "bias": True,
        "rope_theta": 10000,
    },
    "GptOssForCausalLM": {
        "rope_theta": 150000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
    },
}
"""Defaults of the original classes, for settings that config.json omits.

Source: InternVL's configuration_intern_vit.py, configuration_internvl_chat.py and configuration_internlm2.py;
transformers 4.55 configuration_gpt_oss.py.
"""


def read_original(folder: Path) -> dict[str, Any]:
    """Reads config.json of an original folder.

    Raises:
        InputError: it is missing, cannot be read, or belongs to another kind of model.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: no model here (config.json is missing)") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the config cannot be read ({error})") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "internvl_chat":
        raise InputError(f"{path}: model_type is {kind!r}, but the original OpenGVLab layout has 'internvl_chat'")
    return dict(config)


def native_config(original: dict[str, Any], image_token_id: int, where: str) -> Any:
    """Converts an original config to the native one, an `InternVLConfig`.

    Args:
        original: config as `read_original` returns it.
        image_token_id: id of <IMG_CONTEXT>, which only the tokenizer knows.
        where: the folder, for messages.

    Raises:
        InputError: the language model is unknown, or the native classes cannot express a setting.
    """
    try:
        architecture = original["llm_config"]["architectures"][0]
        text = ORIGINAL_DEFAULTS.get(architecture, {}) | original["llm_config"]
        vision = ORIGINAL_DEFAULTS["vision"] | original["vision_config"]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{where}: config.json has no {error}; is the file complete?") from None
    if architecture not in FAMILIES:
        raise InputError(f"{where}: the language model is {architecture}; known are {', '.join(FAMILIES)}")
    original = ORIGINAL_DEFAULTS["chat"] | original
    _refuse_unknown_arithmetic(original, vision, where)
    try:
        side = original.get("force_image_size") or vision["image_size"]
        native_vision = InternVLVisionConfig(
            **{new: vision[old] for old, new in VISION_KEYS.items() if old in vision},
            image_size=[side, side],
            patch_size=[vision["patch_size"]] * 2,
        )
        ratio = original.get("downsample_ratio", 0.5)
        native: Any = InternVLConfig
        return native(
            vision_config=native_vision,
            text_config=_native_text(text, architecture),
            image_token_id=image_token_id,
            image_seq_length=int(side // vision["patch_size"] * ratio) ** 2,
            downsample_ratio=ratio,
            tie_word_embeddings=bool(text.get("tie_word_embeddings", False)),
            template=original.get("template"),
            original_architecture=architecture,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, StrictDataclassError) as error:
        raise InputError(f"{where}: config.json cannot be understood ({' '.join(str(error).split())})") from None


def _refuse_unknown_arithmetic(original: dict[str, Any], vision: dict[str, Any], where: str) -> None:
    expected = {"ps_version": ("v2", "the other pixel shuffle"), "select_layer": (-1, "features of an inner layer")}
    for key, (value, what) in expected.items():
        if original[key] != value:
            raise InputError(
                f"{where}: {key} is {original[key]!r}, but transformers' InternVL supports only {value!r} ({what})"
            )
    if vision.get("qk_normalization") and vision["layer_norm_eps"] != 1e-6:
        raise InputError(
            f"{where}: layer_norm_eps is {vision['layer_norm_eps']}, but transformers' q/k norm supports only 1e-06"
        )
    side = original.get("force_image_size") or vision.get("image_size")
    if side != vision.get("image_size"):
        raise InputError(
            f"{where}: force_image_size is {side} but the tower's position embeddings are for "
            f"{vision.get('image_size')} pixels"
        )


def _native_text(text: dict[str, Any], architecture: str) -> PretrainedConfig:
    kept = {key: text[key] for key in TEXT_KEYS if key in text and (text[key] is not None or key in TOKEN_IDS)}
    kept.setdefault("num_key_value_heads", text["num_attention_heads"])
    if kept.get("pad_token_id") is not None and kept["pad_token_id"] >= text["vocab_size"]:
        raise ValueError(f"pad_token_id {kept['pad_token_id']} is beyond the vocabulary of {text['vocab_size']}")
    if "experts_per_token" in text:
        kept.setdefault("num_experts_per_tok", text["experts_per_token"])
    if architecture == "InternLM2ForCausalLM":
        kept["attention_bias"] = text["bias"]
    # Saved by transformers 5, a config has both settings in one.
    newer = text.get("rope_parameters") or {}
    scaling = newer or text.get("rope_scaling") or {}
    theta = newer.get("rope_theta", text.get("rope_theta", 10000.0))
    rope = {"rope_type": "default", "rope_theta": float(theta)}
    rope |= {key: value for key, value in scaling.items() if key not in ("type", "rope_type", "rope_theta")}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    rope["rope_type"] = "longrope" if kind == "su" else kind
    if rope["rope_type"] == "longrope":
        rope["original_max_position_embeddings"] = text["original_max_position_embeddings"]
    text_config: PretrainedConfig = FAMILIES[architecture](
        **kept, rope_parameters=rope, tie_word_embeddings=bool(text.get("tie_word_embeddings", False))
    )
    return text_config


def differing_settings(ours: Any, theirs: Any) -> list[str]:
    """Returns the names of settings that affect the arithmetic or the prompt and differ between two native configs."""
    apart = (
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "use_cache",
        "initializer_range",
        "attention_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "router_aux_loss_coef",
        "experts_per_token",
        "initial_context_length",
        "max_window_layers",
    )
    names = [f"text_config.{key}" for key in (*TEXT_KEYS, "rope_parameters") if key not in apart]
    names += [
        f"vision_config.{key}"
        for key in (*VISION_KEYS.values(), "image_size", "patch_size")
        if key not in (*apart, "hidden_dropout_prob")
    ]
    names += ["text_config.swiglu_alpha", "vision_feature_layer", "projector_hidden_act"]
    names += ["template", "downsample_ratio", "tie_word_embeddings", "original_architecture"]

    def value(config: Any, name: str) -> Any:
        for part in name.split("."):
            config = getattr(config, part, None)
        return list(config) if isinstance(config, tuple) else config

    # A native config that was not converted from an original one names no architecture.
    return [name for name in names if value(ours, name) not in (value(theirs, name), None)]
