"""Small random models of every language-model family, and random pairs for them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GptOssConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRMSNorm
from transformers.models.internvl.modeling_internvl import InternVLVisionRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeRMSNorm, Qwen3MoeTopKRouter

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
    # InternVL3 has Qwen2.5 with dynamic rope.
    "qwen2_dynamic": Qwen2Config(
        **SIZES, max_position_embeddings=40, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0}
    ),
    "qwen3": Qwen3Config(**SIZES, max_position_embeddings=4096, head_dim=12),
    "qwen3_moe": Qwen3MoeConfig(
        **SIZES,
        max_position_embeddings=4096,
        head_dim=12,
        num_experts=5,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
    ),
    # Sinks, a window that every long pair exceeds, and YaRN.
    "gpt_oss": GptOssConfig(
        **SIZES,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=11,
        num_local_experts=5,
        num_experts_per_tok=2,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 8.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 32,
        },
    ),
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
    model.set_experts_implementation({"text_config": "eager"})  # the plain loop, which has float64
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.15)
        for key, parameter in model.named_parameters():
            if key.endswith(("sinks", "q_norm.weight", "k_norm.weight")) or "proj_bias" in key:
                nn.init.normal_(parameter, mean=1.0, std=0.5)
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
    """RMSNorm and router without their casts to float32, which would hide everything below 1e-8."""

    def forward(self: nn.Module, hidden: Tensor) -> Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    norms = (LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm, Qwen3MoeRMSNorm, GptOssRMSNorm, Phi3RMSNorm)
    for norm in (*norms, InternVLVisionRMSNorm):
        monkeypatch.setattr(norm, "forward", forward)

    def route(self: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = nn.functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
        shares, chosen = torch.topk(logits.softmax(-1), self.top_k, dim=-1)
        return logits, shares / shares.sum(-1, keepdim=True), chosen

    monkeypatch.setattr(Qwen3MoeTopKRouter, "forward", route)
