"""Shapes of InternVL2's seven sizes, for estimates, benchmarks and tests without a download.

Shapes decide memory, speed and parameter counts. They do not replace a checkpoint's config.json, which also has the
real rope settings and special tokens.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from transformers import InternVLConfig, InternVLVisionConfig, LlamaConfig, Phi3Config, Qwen2Config

from mpo_lightning.models.internvl.templates import HERMES, INTERNLM2_CHAT, PHI3_CHAT

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
        template: name of the chat template.
    """

    tower: Tower
    text: Any
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    template: str

    def config(self) -> Any:
        """Returns the native config, an `InternVLConfig`, with tiles of 448 pixels that become 256 tokens."""
        text = self.text(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.mlp,
            vocab_size=self.vocabulary,
            max_position_embeddings=32768,
            tie_word_embeddings=False,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
        native: Any = InternVLConfig
        return native(
            vision_config=deepcopy(TOWERS[self.tower]),
            text_config=text,
            image_token_id=self.vocabulary - 1,
            tie_word_embeddings=False,
            template=self.template,
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

PRESETS = {
    "1b": Preset("300M", Qwen2Config, 896, 24, 14, 2, 4864, 151655, HERMES.name),
    "2b": Preset("300M", LlamaConfig, 2048, 24, 16, 8, 8192, 92553, INTERNLM2_CHAT.name),
    "4b": Preset("300M", Phi3Config, 3072, 32, 32, 32, 8192, 32020, PHI3_CHAT.name),
    "8b": Preset("300M", LlamaConfig, 4096, 32, 32, 8, 14336, 92553, INTERNLM2_CHAT.name),
    "26b": Preset("6B", LlamaConfig, 6144, 48, 48, 8, 16384, 92553, INTERNLM2_CHAT.name),
    "40b": Preset("6B", LlamaConfig, 7168, 60, 56, 8, 20480, 64010, HERMES.name),
    "76b": Preset("6B", LlamaConfig, 8192, 80, 64, 8, 28672, 128265, HERMES.name),
}
"""The presets by size, InternVL2-1B to InternVL2-Llama3-76B."""
