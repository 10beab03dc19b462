"""Every number of golden/loss that is a loss of log-probs: computed by trl 0.10.1 with InternVL's trainer, and by trl
1.16.
"""

import json
from pathlib import Path

import pytest
import torch

from mpo_lightning.objectives import (
    AOT,
    CDPO,
    DPO,
    EXO,
    IPO,
    NCA,
    RSO,
    SPPO,
    AOTUnpaired,
    APODown,
    APOZero,
    DiscoPOP,
    MPOObjective,
    NormalizedDPO,
    PreferenceLoss,
    PreviousSteps,
    RobustDPO,
    RunningMicroBatches,
    SequenceLogps,
    TermWeights,
)  # fmt: skip
from mpo_lightning.objectives.generation import generation_loss
from mpo_lightning.objectives.quality import quality_loss

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
SIDES = ("policy_chosen_logps", "policy_rejected_logps", "reference_chosen_logps", "reference_rejected_logps")


def logps_of(numbers: dict, lengths: tuple[list[int], list[int]]) -> tuple[SequenceLogps, SequenceLogps]:
    chosen, rejected, ref_chosen, ref_rejected = (torch.tensor(numbers[side], dtype=torch.float64) for side in SIDES)
    tokens = tuple(torch.tensor(length) for length in lengths)
    return SequenceLogps(chosen, rejected, *tokens), SequenceLogps(ref_chosen, ref_rejected, *tokens)


def assert_close(ours: torch.Tensor, theirs: object) -> None:
    torch.testing.assert_close(ours.double(), torch.tensor(theirs, dtype=torch.float64), **TOLERANCE)


@pytest.fixture(scope="module")
def ablation(golden: Path) -> dict:
    return json.loads((golden / "loss" / "ablation_losses.json").read_text())


@pytest.fixture(scope="module")
def reference_steps(golden: Path) -> list[dict]:
    return json.loads((golden / "loss" / "mpo_reference_steps.json").read_text())["steps"]


@pytest.fixture(scope="module")
def trl_steps(golden: Path) -> list[dict]:
    return json.loads((golden / "loss" / "mpo_trl_1_16_steps.json").read_text())["steps"]


def loss_named(name: str, smoothing: float, tau: float, version: str) -> PreferenceLoss | None:
    if name == "sigmoid":
        return CDPO(smoothing) if smoothing and version == "trl_0_10_1" else DPO()
    if name == "exo_pair":
        return EXO(smoothing or 1e-3)
    if name == "ipo":
        return IPO(length_average=version == "trl_1_16_0")
    smoothed = {"robust": RobustDPO, "aot": AOT, "aot_pair": AOTUnpaired, "aot_unpaired": AOTUnpaired}
    if name in smoothed:
        return smoothed[name](smoothing)
    if name == "discopop":
        return DiscoPOP(tau)
    plain = {
        "hinge": RSO,
        "nca_pair": NCA,
        "sppo_hard": SPPO,
        "apo_zero": APOZero,
        "apo_down": APODown,
        "sigmoid_norm": NormalizedDPO,
    }
    return plain[name]() if name in plain else None


@pytest.mark.parametrize("version", ["trl_0_10_1", "trl_1_16_0"])
def test_every_ablation_loss_equals_trl(ablation: dict, version: str) -> None:
    inputs = ablation["inputs"]
    policy, reference = logps_of(inputs, (inputs["chosen_completion_lengths"], inputs["rejected_completion_lengths"]))
    compared = 0
    for label, numbers in ablation[version].items():
        name, *options = label.split("|")
        values = {key: float(value) for key, value in (option.split("=") for option in options)}
        loss = loss_named(name, values.get("label_smoothing", 0.0), values.get("tau", 0.05), version)
        if loss is None:
            continue
        ours = loss(policy, reference, inputs["beta"])
        assert_close(ours.mean(), numbers["mean"])
        if numbers.get("per_sample"):
            # Per-sample numbers of 1.16 come from rounded float32 one-sample batches.
            torch.testing.assert_close(
                ours, torch.tensor(numbers["per_sample"], dtype=torch.float64), rtol=1e-5, atol=1e-5
            )
        compared += 1
    assert compared == {"trl_0_10_1": 21, "trl_1_16_0": 23}[version]


def test_ipo_of_the_original_trainer_averages_over_length(ablation: dict) -> None:
    inputs = ablation["inputs"]
    policy, reference = logps_of(inputs, (inputs["chosen_completion_lengths"], inputs["rejected_completion_lengths"]))
    assert_close(
        IPO()(policy, reference, inputs["beta"]), ablation["trl_0_10_1"]["ipo_length_averaged_inputs"]["per_sample"]
    )


def test_bco_pair_equals_trl_with_and_without_its_first_running_mean(ablation: dict) -> None:
    inputs = ablation["inputs"]
    policy, reference = logps_of(inputs, (inputs["chosen_completion_lengths"], inputs["rejected_completion_lengths"]))
    chosen, rejected = MPOObjective(beta=inputs["beta"]).rewards(policy, reference).chunk(2)
    old = ablation["trl_0_10_1"]["bco_pair|label_smoothing=0.0"]
    shift = RunningMicroBatches()
    delta = shift.before_loss(torch.cat([chosen, rejected]), lambda values: values, training=True)
    assert delta == pytest.approx(old["delta_after_first_update"], rel=1e-5)
    assert_close(quality_loss(chosen, rejected, delta), old["per_sample"])
    assert_close(
        quality_loss(chosen, rejected, 0.0), ablation["trl_1_16_0"]["bco_pair|label_smoothing=0.0"]["per_sample"]
    )


def test_sft_equals_trl_as_the_token_mean(ablation: dict, trl_steps: list[dict], reference_steps: list[dict]) -> None:
    inputs = ablation["inputs"]
    policy, _ = logps_of(inputs, (inputs["chosen_completion_lengths"], inputs["rejected_completion_lengths"]))
    assert_close(generation_loss(policy, "token").mean(), ablation["trl_1_16_0"]["sft|label_smoothing=0.0"]["mean"])
    for trl, step in zip(trl_steps, reference_steps, strict=True):
        policy, _ = logps_of(step, (trl["chosen_completion_lengths"], trl["rejected_completion_lengths"]))
        assert_close(generation_loss(policy, "token").mean(), trl["sft"])
        assert_close(generation_loss(policy, "sequence").mean(), trl["sft_sequence_average"])


def test_reference_steps_are_reproduced_with_the_reference_variants(reference_steps: list[dict]) -> None:
    objective = MPOObjective(weights=TermWeights(0.8, 0.2, 0.0))
    shift = RunningMicroBatches()
    for step in reference_steps:
        policy, reference = logps_of(step, ([20] * 4, [20] * 4))
        assert shift.mean == pytest.approx(step["delta_before"], rel=1e-5, abs=1e-7)
        delta = shift.before_loss(objective.rewards(policy, reference), lambda values: values, training=True)
        assert delta == pytest.approx(step["delta_after"], rel=1e-5)
        assert shift.count == round(step["count_after"])
        terms = objective(policy, reference, delta)
        assert_close(terms.rewards_chosen, step["chosen_rewards"])
        assert_close(terms.rewards_rejected, step["rejected_rewards"])
        assert_close(terms.preference, step["sigmoid_losses"])
        assert_close(terms.quality, step["bco_losses"])
        assert_close(terms.total + step["policy_nll_loss"], step["total_per_sample"])
        assert_close(terms.total.mean() + step["policy_nll_loss"], step["total_loss"])
        margins = terms.rewards_chosen - terms.rewards_rejected
        assert_close(margins.mean(), step["metrics"]["rewards/margins"])
        assert_close((margins > 0).double().mean(), step["metrics"]["rewards/accuracies"])


def test_trl_1_16_steps_are_reproduced_without_a_shift(reference_steps: list[dict], trl_steps: list[dict]) -> None:
    objective = MPOObjective(generation_mean="token")
    for step, trl in zip(reference_steps, trl_steps, strict=True):
        policy, reference = logps_of(step, (trl["chosen_completion_lengths"], trl["rejected_completion_lengths"]))
        terms = objective(policy, reference, 0.0)
        assert_close(terms.preference.mean(), trl["sigmoid"])
        assert_close(terms.quality.mean(), trl["bco_pair"])
        assert_close(terms.generation.mean(), trl["sft"])
        assert_close(terms.total.mean(), trl["total"])
        assert trl["reference_delta_used"] != 0  # what TRL 1.16 leaves out


def test_our_delta_leaves_out_the_step_that_uses_it(reference_steps: list[dict]) -> None:
    """The default differs from the reference on purpose: step k uses the rewards of steps before k, each pair once."""
    shift, seen = PreviousSteps(), []
    for step in reference_steps:
        rewards = torch.tensor(step["chosen_rewards"] + step["rejected_rewards"], dtype=torch.float64)
        expected = sum(seen) / len(seen) if seen else 0.0
        assert shift.before_loss(rewards, lambda values: values, training=True) == pytest.approx(expected, abs=1e-12)
        assert shift.before_loss(rewards, lambda values: values, training=False) == pytest.approx(expected, abs=1e-12)
        shift.after_step(float(rewards.sum()), len(rewards))
        seen += rewards.tolist()
