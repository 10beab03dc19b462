"""The memory that is planned against the bytes that a step really takes, and the presets' sizes."""

import gc
from typing import Any

import pytest
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
)

from mpo_lightning.commands.model import plan
from mpo_lightning.errors import InputError
from mpo_lightning.models.freeze import freeze_parts, recompute_activations
from mpo_lightning.models.internvl.presets import PRESETS
from mpo_lightning.models.loading import config_of
from mpo_lightning.models.lora import Lora, add_adapters
from mpo_lightning.models.memory import Row, plan_memory
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective

MILLIONS = {
    "internvl2-1b": 938.16,
    "internvl2-2b": 2205.75,
    "internvl2-4b": 4146.86,
    "internvl2-8b": 8075.37,
    "internvl2-26b": 25514.19,
    "internvl2-40b": 40068.73,
    "internvl2-76b": 76262.36,
    "internvl2_5-1b": 938.19,
    "internvl2_5-2b": 2205.75,
    "internvl2_5-4b": 3712.64,
    "internvl2_5-8b": 8075.37,
    "internvl2_5-26b": 25514.19,
    "internvl2_5-38b": 38388.16,
    "internvl2_5-78b": 78408.32,
    "internvl3-1b": 938.19,
    "internvl3-2b": 2088.96,
    "internvl3-8b": 7944.37,
    "internvl3-9b": 9141.90,
    "internvl3-14b": 15117.26,
    "internvl3-38b": 38388.16,
    "internvl3-78b": 78408.32,
    "internvl3_5-1b": 1060.90,
    "internvl3_5-2b": 2348.35,
    "internvl3_5-4b": 4732.49,
    "internvl3_5-8b": 8528.32,
    "internvl3_5-14b": 15119.52,
    "internvl3_5-38b": 38390.41,
    "internvl3_5-20b-a4b": 21238.87,
    "internvl3_5-30b-a3b": 30848.73,
    "internvl3_5-241b-a28b": 240699.37,
}
CARDS = {
    "internvl2_5-4b": 3.71,
    "internvl2_5-38b": 38.4,
    "internvl2_5-78b": 78.4,
    "internvl3-2b": 2.09,
    "internvl3-8b": 7.94,
    "internvl3-9b": 9.14,
    "internvl3-14b": 15.1,
    "internvl3_5-1b": 1.1,
    "internvl3_5-2b": 2.3,
    "internvl3_5-4b": 4.7,
    "internvl3_5-8b": 8.5,
    "internvl3_5-14b": 15.1,
    "internvl3_5-38b": 38.4,
    "internvl3_5-20b-a4b": 21.2,
    "internvl3_5-30b-a3b": 30.8,
    "internvl3_5-241b-a28b": 240.7,
}
"""Billions as the model cards round them."""


def by_hand(name: str) -> float:
    """Millions of parameters by arithmetic over the shapes."""
    preset = PRESETS[name]
    hidden, kind = preset.hidden, preset.text.model_type
    head = preset.more.get("head_dim", hidden // preset.heads)
    queries, keys = preset.heads * head, preset.kv_heads * head
    attention = 2 * hidden * (queries + keys)
    attention += {"qwen2": queries + 2 * keys, "gpt_oss": queries + 2 * keys + hidden + preset.heads}.get(kind, 0)
    attention += 2 * head if kind.startswith("qwen3") else 0
    mlp = 3 * hidden * preset.mlp
    if kind == "qwen3_moe":
        mlp = preset.more["num_experts"] * (3 * hidden * preset.more["moe_intermediate_size"] + hidden)
    elif kind == "gpt_oss":
        mlp = preset.more["num_local_experts"] * (mlp + 2 * preset.mlp + hidden + hidden + 1)
    text = preset.layers * (attention + mlp + 2 * hidden) + hidden + 2 * preset.vocabulary * hidden
    if preset.tower == "300M":
        width, layers, patches = 1024, 24, 1025
        layer = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width + 2 * width
    else:
        width, layers, patches = 3200, 45, 1025
        layer = 4 * width**2 + width + 8 * width**2 + 5 * width + 2 * width + 2 * width + 2 * width
    tower = layers * layer + patches * width + width + 3 * 14**2 * width + width
    wide = 4 * width
    projector = 2 * wide + wide * hidden + hidden + hidden**2 + hidden
    return (text + tower + projector) / 1e6


@pytest.mark.parametrize("name", [name for name in PRESETS if "-" in name])
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config_of(name.upper()))
    millions = sum(part.numel() for part in model.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], abs=0.01) == pytest.approx(by_hand(name), abs=0.01)
    if name in CARDS:
        digits = len(str(CARDS[name]).partition(".")[2])
        assert round(millions / 1e3, digits) == CARDS[name]


def small_config(kind: Any) -> Any:
    text = kind(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=384,
        vocab_size=4096,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
        max_position_embeddings=4096,
    )
    vision = InternVLVisionConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        image_size=[224, 224],
        attention_bias=True,
    )
    native: Any = InternVLConfig
    return native(
        vision_config=vision, text_config=text, image_token_id=4095, image_seq_length=64, tie_word_embeddings=False
    )


def measured_bytes(
    config: Any, row: Row, checkpointing: bool, precision: str, keep_gib: float, lora: Lora | None, freeze: tuple
) -> float:
    """Peak of the second micro-batch of a step: weights, optimizer state, gradients, and every allocation of the pass
    itself.
    """
    model = InternVLForConditionalGeneration(config)
    if lora:
        add_adapters(model, lora)
    else:
        freeze_parts(model, freeze)
    if checkpointing:
        recompute_activations(model)
    forward, batch = PairForward(model.train(), keep_logits_bytes=int(keep_gib * 2**30)), row.batch(config)
    trained = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def micro_batch() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32-true"):
            logps, _ = forward(batch)
            loss = MPOObjective()(logps, logps.detach(), 0.0).total.mean()
        loss.backward()

    micro_batch()
    optimizer.step()
    state = sum(value.nbytes for values in optimizer.state.values() for value in values.values())
    gradients = sum(part.grad.nbytes for part in trained if part.grad is not None)
    model.lm_head.workspace.spare = None
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        micro_batch()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return sum(part.nbytes for part in model.parameters()) + state + gradients + peak


CASES = [
    (Qwen2Config, Row(1, 3, 80, 60, 90), False, "32-true", 1.0, None, ()),
    (Qwen2Config, Row(2, 4, 20, 60, 90), True, "32-true", 1.0, None, ()),
    (LlamaConfig, Row(1, 7, 80, 60, 90), False, "bf16-mixed", 1.0, None, ("vision_tower",)),
    (LlamaConfig, Row(1, 2, 80, 300, 350), True, "bf16-mixed", 0.0, None, ()),
    (Phi3Config, Row(3, 0, 80, 100, 90), False, "32-true", 1.0, None, ()),
    (Qwen2Config, Row(1, 4, 80, 200, 90), False, "32-true", 1.0, Lora(rank=8, dropout=0.0), ()),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_plan_is_within_a_tenth_of_what_a_step_takes(case: tuple) -> None:
    kind, row, checkpointing, precision, keep, lora, freeze = case
    config = small_config(kind)
    found = plan_memory(
        config,
        row,
        "cache",
        freeze,
        lora,
        gradient_checkpointing=checkpointing,
        precision=precision,
        keep_logits_gib=keep,
    )
    measured = measured_bytes(config, row, checkpointing, precision, keep, lora, freeze)
    assert found.total == pytest.approx(measured, rel=0.1), found


def test_devices_divide_what_they_share() -> None:
    config = small_config(LlamaConfig)
    alone, ddp, cut = (
        plan_memory(config, Row(), strategy=strategy, devices=devices)
        for strategy, devices in (("single", 1), ("ddp", 8), ("fsdp2", 8))
    )
    assert ddp.total - alone.total == ddp.exchange == alone.gradients
    for name in ("weights", "reference", "gradients", "optimizer"):
        assert getattr(cut, name) == getattr(alone, name) / 8
    assert cut.activations == alone.activations == ddp.activations


def test_the_command_says_what_fits(capsys: pytest.CaptureFixture) -> None:
    plan("InternVL2-1B", devices=8, reference="cache", tiles=7)
    shown = capsys.readouterr().out
    assert "1 pair of 7 tiles a row, on 8 devices (ddp)" in shown and "fits on cards of 24, 40" in shown
    with pytest.raises(InputError, match="unknown model size '9b'; give a checkpoint folder or one of 1b, 2b"):
        plan("9b")
    with pytest.raises(InputError, match="--reference adapter needs --lora_rank"):
        plan("1b", reference="adapter")
