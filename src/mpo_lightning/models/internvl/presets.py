"""Shapes of the released InternVL sizes, for estimates, benchmarks and tests without a download.

Shapes decide memory, speed and parameter counts. They do not replace a checkpoint's config.json, which also has the
real rope settings and special tokens.

Sources: the language models' own configs (Qwen2.5, InternLM2.5, Qwen3, gpt-oss; InternLM3 for InternVL3-9B) and
InternVL's model cards. The heads of all sizes are untied.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import (
    GptOssConfig,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.models.internvl.templates import GPT_OSS, HERMES, INTERNLM2_CHAT, INTERNVL2_5, PHI3_CHAT

Tower = Literal["300M", "6B"]


@dataclass(frozen=True)
class Preset:
    """Shape of one model size.

    Attributes:
        tower: size of the vision tower.
        text: config class of the language model; InternLM2 is a Llama.
        hidden: hidden size of the language model.
        layers: number of layers.
        heads: number of query heads.
        kv_heads: number of key-value heads.
        mlp: width of the MLP.
        vocabulary: number of tokens, image tokens included.
        template: chat template.
        more: further settings of the config class, such as the size of a head or the experts.
    """

    tower: Tower
    text: Any
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    template: ChatTemplate
    more: dict[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        """Returns the native config, an `InternVLConfig`, with tiles of 448 pixels that become 256 tokens."""
        shape = {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.mlp,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": False,
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        native: Any = InternVLConfig
        return native(
            vision_config=deepcopy(TOWERS[self.tower]),
            text_config=self.text(**(shape | self.more)),
            image_token_id=self.vocabulary - 1,
            tie_word_embeddings=False,
            template=self.template.name,
        )


TOWERS: dict[Tower, InternVLVisionConfig] = {
    "300M": InternVLVisionConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, attention_bias=True
    ),
    "6B": InternVLVisionConfig(
        hidden_size=3200,
        num_hidden_layers=45,
        num_attention_heads=25,
        intermediate_size=12800,
        attention_bias=False,
        use_qk_norm=True,
        norm_type="rms_norm",
    ),
}


def _qwen2_5(tower: Tower, hidden: int, layers: int, heads: int, kv_heads: int, mlp: int) -> Preset:
    return Preset(tower, Qwen2Config, hidden, layers, heads, kv_heads, mlp, 151674, INTERNVL2_5)


def _qwen3(tower: Tower, hidden: int, layers: int, heads: int, mlp: int) -> Preset:
    more = {"head_dim": 128, "max_position_embeddings": 40960}
    return Preset(tower, Qwen3Config, hidden, layers, heads, 8, mlp, 151936, INTERNVL2_5, more)


def _qwen3_moe(tower: Tower, hidden: int, layers: int, heads: int, mlp: int, expert: int) -> Preset:
    more = {
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": expert,
        "norm_topk_prob": True,
    }
    return Preset(tower, Qwen3MoeConfig, hidden, layers, heads, 4, mlp, 151936, INTERNVL2_5, more)


INTERNVL2 = {
    "1b": Preset("300M", Qwen2Config, 896, 24, 14, 2, 4864, 151655, HERMES),
    "2b": Preset("300M", LlamaConfig, 2048, 24, 16, 8, 8192, 92553, INTERNLM2_CHAT),
    "4b": Preset("300M", Phi3Config, 3072, 32, 32, 32, 8192, 32020, PHI3_CHAT),
    "8b": Preset("300M", LlamaConfig, 4096, 32, 32, 8, 14336, 92553, INTERNLM2_CHAT),
    "26b": Preset("6B", LlamaConfig, 6144, 48, 48, 8, 16384, 92553, INTERNLM2_CHAT),
    "40b": Preset("6B", LlamaConfig, 7168, 60, 56, 8, 20480, 64010, HERMES),
    "76b": Preset("6B", LlamaConfig, 8192, 80, 64, 8, 28672, 128265, HERMES),
}
"""InternVL2-1B to InternVL2-Llama3-76B."""

INTERNVL2_5_SIZES = {
    "1b": _qwen2_5("300M", 896, 24, 14, 2, 4864),
    "2b": Preset("300M", LlamaConfig, 2048, 24, 16, 8, 8192, 92553, INTERNVL2_5),
    "4b": _qwen2_5("300M", 2048, 36, 16, 2, 11008),
    "8b": Preset("300M", LlamaConfig, 4096, 32, 32, 8, 14336, 92553, INTERNVL2_5),
    "26b": Preset("6B", LlamaConfig, 6144, 48, 48, 8, 16384, 92553, INTERNVL2_5),
    "38b": _qwen2_5("6B", 5120, 64, 40, 8, 27648),
    "78b": _qwen2_5("6B", 8192, 80, 64, 8, 29568),
}

INTERNVL3_SIZES = {
    "1b": _qwen2_5("300M", 896, 24, 14, 2, 4864),
    "2b": _qwen2_5("300M", 1536, 28, 12, 2, 8960),
    "8b": _qwen2_5("300M", 3584, 28, 28, 4, 18944),
    # InternLM3-8B, stored as InternLM2; its vocabulary with the image tokens is not known to the last token.
    "9b": Preset("300M", LlamaConfig, 4096, 48, 32, 2, 10240, 128521, INTERNVL2_5, {"head_dim": 128}),
    "14b": _qwen2_5("300M", 5120, 48, 40, 8, 13824),
    "38b": _qwen2_5("6B", 5120, 64, 40, 8, 27648),
    "78b": _qwen2_5("6B", 8192, 80, 64, 8, 29568),
}

INTERNVL3_5_SIZES = {
    "1b": _qwen3("300M", 1024, 28, 16, 3072),
    "2b": _qwen3("300M", 2048, 28, 16, 6144),
    "4b": _qwen3("300M", 2560, 36, 32, 9728),
    "8b": _qwen3("300M", 4096, 36, 32, 12288),
    "14b": _qwen3("300M", 5120, 40, 40, 17408),
    "38b": _qwen3("6B", 5120, 64, 64, 25600),
    "20b-a4b": Preset(
        "300M",
        GptOssConfig,
        2880,
        24,
        64,
        8,
        2880,
        201088,
        GPT_OSS,
        {
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "sliding_window": 128,
        },
    ),
    "30b-a3b": _qwen3_moe("300M", 2048, 48, 32, 6144, 768),
    "241b-a28b": _qwen3_moe("6B", 4096, 94, 64, 12288, 1536),
}

PRESETS = {
    **INTERNVL2,
    **{
        f"{family}-{size}": preset
        for family, sizes in (
            ("internvl2", INTERNVL2),
            ("internvl2_5", INTERNVL2_5_SIZES),
            ("internvl3", INTERNVL3_SIZES),
            ("internvl3_5", INTERNVL3_5_SIZES),
        )
        for size, preset in sizes.items()
    },
}
"""The presets by name, such as internvl3_5-8b; a size alone is InternVL2's."""
