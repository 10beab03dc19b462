"""Preference losses that are DPO with other labels, margins, orders or references.

Notation: see `objectives/preference.py`. A new loss of this kind is a class here.
"""

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import logsigmoid

from mpo_lightning.errors import InputError
from mpo_lightning.objectives.logps import SequenceLogps
from mpo_lightning.objectives.preference import DPO, PreferenceLoss, average_margin, log_ratios, margin


class CDPO(PreferenceLoss):
    """DPO that expects a share of labels to be flipped. Source: Mitchell 2023, "A note on DPO with noisy preferences".

    Args:
        label_smoothing: expected share of flipped labels, 0 to 0.5.
    """

    def __init__(self, label_smoothing: float = 0.1) -> None:
        self.label_smoothing = _check_smoothing(label_smoothing)

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return _smoothed(beta * margin(policy, reference), self.label_smoothing)


class RobustDPO(PreferenceLoss):
    """DPO with an unbiased correction for flipped labels. Source: Chowdhury et al. 2024, arXiv 2403.00409.

    Args:
        label_smoothing: assumed share of flipped labels, 0 to 0.5 (0.5 excluded).
    """

    def __init__(self, label_smoothing: float = 0.1) -> None:
        self.label_smoothing = _check_smoothing(label_smoothing)

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        logits, share = beta * margin(policy, reference), self.label_smoothing
        return (-logsigmoid(logits) * (1 - share) + logsigmoid(-logits) * share) / (1 - 2 * share)


class NormalizedDPO(PreferenceLoss):
    """DPO on log-probs divided by each answer's tokens (TRL 1.16's `sigmoid_norm`; Tulu 3, arXiv 2411.15124)."""

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return -logsigmoid(beta * average_margin(policy, reference))


class AOT(PreferenceLoss):
    """Distributional alignment of margins: sorted policy margins against sorted reference margins.

    It sorts each micro-batch, so its value depends on it. Source: Melnyk et al. 2024, arXiv 2406.05882; TRL's `aot`.

    Args:
        label_smoothing: expected share of flipped labels, as in `CDPO`.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = _check_smoothing(label_smoothing)

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        policy_margin, reference_margin = policy.chosen - policy.rejected, reference.chosen - reference.rejected
        return _smoothed(beta * (policy_margin.sort().values - reference_margin.sort().values), self.label_smoothing)


class AOTUnpaired(AOT):
    """Distributional alignment: sorted c against sorted r (TRL 0.10.1's `aot_pair`, 1.16's `aot_unpaired`)."""

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = log_ratios(policy, reference)
        return _smoothed(beta * (chosen.sort().values - rejected.sort().values), self.label_smoothing)


class TRDPO(DPO):
    """DPO against a reference that follows the policy. Source: Gorbatovski et al. 2024, arXiv 2404.09656.

    Every `every_n_steps` optimizer steps the training loop sets reference = alpha * policy + (1 - alpha) * reference.

    Args:
        alpha: weight of the policy, 0 to 1; 1 copies it (the paper's hard update).
        every_n_steps: optimizer steps between updates.
    """

    moves_reference = True

    def __init__(self, alpha: float = 0.6, every_n_steps: int = 512) -> None:
        if not 0 < alpha <= 1 or every_n_steps < 1:
            raise InputError(f"TRDPO needs 0 < alpha <= 1 and every_n_steps >= 1, got {alpha} and {every_n_steps}")
        self.alpha = alpha
        self.every_n_steps = every_n_steps

    def after_step(self, step: int, move_reference: Callable[[float], None]) -> None:
        if step % self.every_n_steps == 0:
            move_reference(self.alpha)


def _smoothed(logits: Tensor, label_smoothing: float) -> Tensor:
    return -logsigmoid(logits) * (1 - label_smoothing) - logsigmoid(-logits) * label_smoothing


def _check_smoothing(share: float) -> float:
    if not 0 <= share < 0.5:
        raise InputError(f"label_smoothing must be at least 0 and below 0.5, got {share}")
    return share
