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
    "1b": 938.16,
    "2b": 2205.75,
    "4b": 4146.86,
    "8b": 8075.37,
    "26b": 25514.19,
    "40b": 40068.73,
    "76b": 76262.36,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config_of(f"InternVL2-{name.upper()}"))
    assert sum(part.numel() for part in model.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.01)


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
