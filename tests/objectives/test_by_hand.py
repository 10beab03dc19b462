"""Losses that the golden file lacks, and properties of the mixture, by arithmetic in plain Python."""

import math

import pytest
import torch

from mpo_lightning.errors import InputError
from mpo_lightning.objectives import (
    AOT,
    CDPO,
    DPO,
    EXO,
    IPO,
    NCA,
    ORPO,
    RSO,
    SPPO,
    TRDPO,
    AOTUnpaired,
    APODown,
    APOZero,
    DiscoPOP,
    MPOObjective,
    NormalizedDPO,
    PreferenceLoss,
    RobustDPO,
    RunningMicroBatches,
    SequenceLogps,
    TermWeights,
)  # fmt: skip


def logps(chosen: list[float], rejected: list[float], tokens: tuple[int, int] = (10, 20)) -> SequenceLogps:
    lengths = (torch.full((len(chosen),), side) for side in tokens)
    return SequenceLogps(
        torch.tensor(chosen, dtype=torch.float64), torch.tensor(rejected, dtype=torch.float64), *lengths
    )


def test_orpo_is_the_log_odds_ratio_of_mean_token_probabilities() -> None:
    # Mean log-probs -2/10 = -0.2 and -10/20 = -0.5.
    p, q = math.exp(-0.2), math.exp(-0.5)
    log_odds_ratio = math.log((p / (1 - p)) / (q / (1 - q)))
    expected = -math.log(1 / (1 + math.exp(-log_odds_ratio)))
    policy = logps([-2.0], [-10.0])
    assert ORPO()(policy, policy, 0.1).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (DPO(), math.log(2)),
        (CDPO(0.2), math.log(2)),
        (RobustDPO(0.2), math.log(2)),
        (RSO(), 1),
        (IPO(), 25),
        (NormalizedDPO(), math.log(2)),
        (SPPO(), 50),
        (NCA(), 2 * math.log(2)),
        (EXO(0.01), 0.5 * math.log(0.5 / 0.99) + 0.5 * math.log(0.5 / 0.01)),
        (APOZero(), 1),
        (APODown(), 1),
        (DiscoPOP(), 0.5 + 0.5 * math.log(2)),
        (AOT(), math.log(2)),
        (AOTUnpaired(), math.log(2)),
        (TRDPO(), math.log(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_loss_starts_at_its_closed_value(loss: PreferenceLoss, value: float) -> None:
    same = logps([-20.0, -7.0], [-31.0, -2.0])
    assert loss(same, same, 0.1).tolist() == pytest.approx([value, value])
    assert loss.at_start(0.1) == pytest.approx(value)


def test_mpo_starts_at_0_832() -> None:
    assert MPOObjective().at_start() == pytest.approx(0.8 * math.log(2) + 0.2 * 2 * math.log(2))
    assert MPOObjective(ORPO(), TermWeights(0.1, 0.2, 1)).at_start() is None and ORPO().at_start(0.1) is None


def test_orpo_of_an_answer_that_is_certain_is_finite() -> None:
    policy = logps([0.0, 0.0, -1e-12], [-10.0, 0.0, 0.0])
    policy.chosen.requires_grad_()
    losses = ORPO()(policy, policy, 0.1)
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(policy.chosen.grad).all()
    assert losses[0].item() < 1e-6 and losses[1].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_impossible_weights_and_betas_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="weights must be numbers"):
        MPOObjective(weights=TermWeights(value, 0.2, 1.0))
    with pytest.raises(InputError, match="beta must be a number above 0"):
        MPOObjective(beta=value)


def test_orpo_objective_needs_no_reference_and_adds_the_generation_loss() -> None:
    objective = MPOObjective(ORPO(), TermWeights(0.1, 0.0, 1.0))
    assert not objective.needs_reference
    policy = logps([-2.0], [-10.0])
    terms = objective(policy, None, 0.0)
    assert terms.total.item() == pytest.approx(0.1 * ORPO()(policy, policy, 0.1).item() + 2.0 / 10, rel=1e-12)
    assert terms.rewards_chosen is None and terms.quality is None


def test_trdpo_has_the_value_of_dpo_against_its_present_reference() -> None:
    policy, reference = logps([-5.0], [-9.0]), logps([-6.0], [-7.0])
    h = (-5 + 6) - (-9 + 7)  # 3
    assert TRDPO()(policy, reference, 0.1).item() == pytest.approx(math.log(1 + math.exp(-0.1 * h)), rel=1e-12)


def test_at_the_start_mpo_is_0_832_plus_the_nll() -> None:
    policy = logps([-12.0, -30.0], [-20.0, -8.0])
    terms = MPOObjective()(policy, policy, 0.0)
    nll = (12 / 10 + 30 / 10) / 2
    assert terms.total.mean().item() == pytest.approx(0.8 * math.log(2) + 0.4 * math.log(2) + nll, rel=1e-12)
    assert terms.total.mean().item() - nll == pytest.approx(0.832, abs=5e-4)
    assert torch.equal(terms.rewards_chosen, torch.zeros(2, dtype=torch.float64))


def test_sft_alone_needs_no_reference() -> None:
    objective = MPOObjective(weights=TermWeights(0.0, 0.0, 1.0))
    assert not objective.needs_reference
    assert objective(logps([-12.0], [-20.0]), None, 0.0).total.item() == pytest.approx(1.2)


def test_a_users_own_loss_takes_the_place_of_dpo() -> None:
    class Squared(PreferenceLoss):
        def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> torch.Tensor:
            return (policy.chosen - policy.rejected - 1) ** 2

    terms = MPOObjective(Squared(), TermWeights(2.0, 0.0, 0.0))(logps([-1.0], [-4.0]), logps([0.0], [0.0]), 0.0)
    assert terms.total.item() == pytest.approx(2 * (3 - 1) ** 2)


def test_gradient_of_dpo_is_minus_beta_times_the_wrong_probability() -> None:
    chosen = torch.tensor([-5.0], dtype=torch.float64, requires_grad=True)
    policy = SequenceLogps(chosen, torch.tensor([-9.0], dtype=torch.float64), torch.tensor([10]), torch.tensor([10]))
    DPO()(policy, logps([-6.0], [-7.0]), 0.1).sum().backward()
    assert chosen.grad.item() == pytest.approx(-0.1 / (1 + math.exp(0.3)), rel=1e-12)


def test_an_empty_micro_batch_has_a_zero_loss_that_can_be_differentiated() -> None:
    chosen = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    empty = SequenceLogps(chosen, chosen, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    for mean in ("sequence", "token"):
        terms = MPOObjective(generation_mean=mean)(empty, empty.detach(), 0.5)
        assert terms.total.sum().item() == 0
        terms.total.sum().backward()
    shift = RunningMicroBatches()
    assert shift.before_loss(torch.zeros(0), lambda values: values, training=True) == 0 and shift.count == 0


@pytest.mark.parametrize("make", [
    lambda: MPOObjective(weights=TermWeights(0, 0, 0)), lambda: MPOObjective(weights=TermWeights(-1, 0, 1)),
    lambda: MPOObjective(beta=0), lambda: EXO(0.0), lambda: TRDPO(alpha=0),
])  # fmt: skip
def test_impossible_settings_are_refused_with_a_sentence(make: object) -> None:
    with pytest.raises(InputError, match="got"):
        make()  # type: ignore[operator]


def test_running_mean_equals_the_two_ranks_of_the_golden_file(golden) -> None:
    import json

    numbers = json.loads((golden / "loss" / "running_mean_two_ranks.json").read_text())
    shift = RunningMicroBatches()
    for step, (ours, other) in enumerate(zip(numbers["inputs_rank0"], numbers["inputs_rank1"], strict=True)):
        delta = shift.before_loss(
            torch.tensor([ours]), lambda values, other=other: values + torch.tensor([other, 1.0]).double(), True
        )
        assert delta == pytest.approx(numbers["ranks"]["0"]["running_mean"][step], rel=1e-5)
        assert shift.count == numbers["ranks"]["0"]["count"][step]


def test_shift_state_survives_saving() -> None:
    shift, restored = RunningMicroBatches(), RunningMicroBatches()
    shift.before_loss(torch.tensor([0.3, 0.1]), lambda values: values, training=True)
    restored.load_state_dict(shift.state_dict())
    assert restored.mean == shift.mean and restored.count == shift.count == 1
