"""Whole MPO micro-batches through tiny models, against the reference implementation: log-probs, losses, gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import pad

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.data.tiling import IMAGENET_MEAN, IMAGENET_STD, normalize_tiles
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.objectives import MPOObjective, RunningMicroBatches, SequenceLogps
from support.golden_models import golden_model, gradients_by_original_name

NAMES = ("internlm2_gqa", "qwen2_bias")


def golden_batch(tensors: dict[str, torch.Tensor], step: int) -> PairBatch:
    """The reference's collated batch as ours: the two halves padded to one length, dummy tiles dropped, pixels as bytes."""
    part = {key.removeprefix(f"step{step}."): value for key, value in tensors.items() if key.startswith(f"step{step}.")}
    length = max(part["chosen_input_ids"].shape[1], part["rejected_input_ids"].shape[1])

    def both(name: str, fill: int) -> torch.Tensor:
        halves = (part[f"{side}_{name}"] for side in ("chosen", "rejected"))
        return torch.cat([pad(half, (0, length - half.shape[1]), value=fill) for half in halves])

    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = part["pixel_values"][part["image_flags"].bool()]
    tiles = ((pixels * std + mean) * 255).round().to(torch.uint8)
    torch.testing.assert_close(normalize_tiles(tiles), pixels, rtol=0, atol=1e-6)
    pairs = len(part["chosen_input_ids"])
    return PairBatch(
        input_ids=both("input_ids", 0), attention_mask=both("attention_mask", 0), labels=both("labels", -100), tiles=tiles,
        weights=torch.ones(pairs, dtype=torch.float64), keys=("",) * pairs, step_pairs=pairs, last_of_step=True,
    )  # fmt: skip


def assert_close(ours: torch.Tensor, theirs: object) -> None:
    torch.testing.assert_close(ours.detach().double(), torch.as_tensor(theirs, dtype=torch.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_whole_model_steps_equal_the_reference(golden: Path, name: str) -> None:
    checkpoint, folder = golden / "checkpoints" / name, golden / "loss" / f"model_{name}"
    tensors = load_file(folder / "mpo_model_steps.safetensors")
    steps = json.loads((folder / "mpo_model_steps.json").read_text())["steps"]
    overrides = {
        key.removeprefix("policy_override."): value for key, value in tensors.items() if key.startswith("policy_override.")
    }
    policy = PairForward(golden_model(checkpoint, overrides))
    reference = PairForward(freeze(golden_model(checkpoint)))
    objective, shift = MPOObjective(generation_mean="token"), RunningMicroBatches()
    for number, step in enumerate(steps):
        batch = golden_batch(tensors, number)
        ours, theirs = policy(batch), reference(batch)
        assert_close(ours.chosen, step["policy_chosen_logps"])
        assert_close(ours.rejected, step["policy_rejected_logps"])
        assert_close(theirs.chosen, step["reference_chosen_logps"])
        assert_close(theirs.rejected, step["reference_rejected_logps"])
        assert ours.chosen_tokens.tolist() == step["chosen_label_tokens"]
        assert ours.rejected_tokens.tolist() == step["rejected_label_tokens"]
        delta = shift.before_loss(objective.rewards(ours, theirs), lambda values: values, training=True)
        assert delta == pytest.approx(step["delta_after"], rel=1e-5, abs=1e-6)
        terms = objective(ours, theirs, delta)
        assert_close(terms.generation.mean(), step["policy_nll_loss"])
        assert_close(terms.total.mean(), step["loss"])
        margins = terms.rewards_chosen - terms.rewards_rejected
        torch.testing.assert_close(float(margins.mean()), step["metrics"]["rewards/margins"], rtol=1e-4, atol=1e-5)
        policy.zero_grad()
        terms.total.mean().backward()
        gradients = [parameter.grad for parameter in policy.parameters()]
        assert_close(torch.nn.utils.get_total_norm(gradients), step["grad_norm_total"])
        names = [name for name in step["grad_norms"] if step["grad_norms"][name] > 1e-6]
        by_name = gradients_by_original_name(policy.model, names, checkpoint)
        assert len(names) > 50
        for key in names:
            torch.testing.assert_close(float(by_name[key].norm()), step["grad_norms"][key], rtol=1e-5, atol=1e-6)
        if number == 0:
            full = {key.removeprefix("grad_step0."): value for key, value in tensors.items() if key.startswith("grad_step0.")}
            for key, gradient in gradients_by_original_name(policy.model, list(full), checkpoint).items():
                torch.testing.assert_close(gradient, full[key], rtol=1e-5, atol=1e-6)


def test_answer_logps_equal_a_loop_over_tokens() -> None:
    from mpo_lightning.models.pair_forward import answer_logps

    torch.manual_seed(0)
    logits = torch.randn(3, 6, 11)
    labels = torch.tensor([[-100, -100, 4, 5, -100, -100], [-100, 1, 2, 3, 4, 5], [-100] * 6])
    sums, counts = answer_logps(logits, labels)
    for row in range(3):
        expected = 0.0
        for position in range(5):
            if labels[row, position + 1] != -100:
                odds = logits[row, position].double().exp()
                expected += float((odds[labels[row, position + 1]] / odds.sum()).log())
        assert sums[row].item() == pytest.approx(expected, abs=1e-5)
    assert counts.tolist() == [2, 5, 0] and sums.dtype == torch.float64


def test_padding_and_company_do_not_change_a_pairs_logps(golden: Path) -> None:
    """A pair alone has the same log-probs as in a batch, up to float32."""
    tensors = load_file(golden / "loss" / "model_qwen2_bias" / "mpo_model_steps.safetensors")
    forward = PairForward(golden_model(golden / "checkpoints" / "qwen2_bias"))
    batch = golden_batch(tensors, 1)
    together: SequenceLogps = forward(batch)
    flags = tensors["step1.image_flags"]
    tiles_of_first = int((batch.input_ids[0] == forward.model.config.image_token_id).sum()) // 4
    assert tiles_of_first == int(flags.sum()) == 4  # the second pair is text only
    for pair in range(2):
        rows = torch.tensor([pair, pair + 2])
        length = int(batch.attention_mask[rows].sum(dim=1).max())
        alone = PairBatch(
            batch.input_ids[rows, :length], batch.attention_mask[rows, :length], batch.labels[rows, :length],
            batch.tiles[:tiles_of_first] if pair == 0 else batch.tiles[tiles_of_first:], torch.ones(1).double(), ("",), 1, True,
        )  # fmt: skip
        assert_close(forward(alone).chosen, together.chosen[pair : pair + 1].detach())
