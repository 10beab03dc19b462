"""Small random models of every language-model family, and random pairs for them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
)
from transformers.models.internvl.modeling_internvl import InternVLVisionRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from mpo_lightning.data.encoding import EncodedPair

VOCABULARY, IMAGE_TOKEN, TILE_SIZE, TOKENS_PER_TILE = 97, 96, 56, 4
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
HALF_HEAD = SIZES["hidden_size"] // SIZES["num_attention_heads"] // 2
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * HALF_HEAD,
    "long_factor": [2.0 + n for n in range(HALF_HEAD)],
    "original_max_position_embeddings": 40,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES, max_position_embeddings=4096),
    "qwen2": Qwen2Config(**SIZES, max_position_embeddings=4096),
    "phi3": Phi3Config(**SIZES, max_position_embeddings=4096, sliding_window=2048),
    # InternLM2 is loaded as Llama with dynamic rope; 40 positions, so that some pairs are longer.
    "internlm2": LlamaConfig(
        **SIZES, max_position_embeddings=40, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
    "phi3_longrope": Phi3Config(**SIZES, max_position_embeddings=4096, rope_parameters=LONG_ROPE),
}


def family_model(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> InternVLForConditionalGeneration:
    """A random model; every weight large enough that a wrong attention pattern shows."""
    vision = InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=[TILE_SIZE] * 2,
        patch_size=[14, 14],
        attention_bias=True,
        use_qk_norm=name == "llama",
        norm_type="rms_norm" if name == "llama" else "layer_norm",
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=FAMILIES[name],
        image_token_id=IMAGE_TOKEN,
        image_seq_length=TOKENS_PER_TILE,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.15)
    return model.to(dtype).eval()


def random_pair(generator: torch.Generator, tiles: int, prompt: int, chosen: int, rejected: int) -> EncodedPair:
    """A pair of that many tokens; a picture's tokens stand inside the prompt, which grows by them."""

    def tokens(count: int) -> Tensor:
        return torch.randint(0, IMAGE_TOKEN, (count,), generator=generator)

    ids = torch.cat([tokens(2), torch.full((tiles * TOKENS_PER_TILE,), IMAGE_TOKEN), tokens(prompt - 2)])
    pixels = torch.randint(0, 256, (tiles, 3, TILE_SIZE, TILE_SIZE), generator=generator, dtype=torch.uint8)
    return EncodedPair(f"{tiles}-{prompt}", ids, tokens(chosen), tokens(rejected), pixels)


def random_pairs(shapes: Sequence[tuple[int, int, int, int]], seed: int = 0) -> list[EncodedPair]:
    """Pairs of (tiles, prompt, chosen, rejected)."""
    generator = torch.Generator().manual_seed(seed)
    return [random_pair(generator, *shape) for shape in shapes]


def patch_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """RMSNorm without its cast to float32, which would hide everything below 1e-8."""

    def forward(self: nn.Module, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    for norm in (LlamaRMSNorm, Qwen2RMSNorm, Phi3RMSNorm, InternVLVisionRMSNorm):
        monkeypatch.setattr(norm, "forward", forward)
