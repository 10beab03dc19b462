"""Preference losses of another shape than DPO.

Notation: see `objectives/preference.py`. A new loss is a class here, and a config names it.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, sigmoid

from mpo_lightning.errors import InputError
from mpo_lightning.objectives.logps import SequenceLogps
from mpo_lightning.objectives.preference import PreferenceLoss, average_margin, log_ratios, margin


class RSO(PreferenceLoss):
    """Hinge loss max(0, 1 - beta h). Source: Liu et al. 2023, arXiv 2309.06657 (and SLiC, arXiv 2305.10425)."""

    def at_start(self, beta: float) -> float:
        return 1.0

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return relu(1 - beta * margin(policy, reference))


class IPO(PreferenceLoss):
    """(h - 1/(2 beta))^2. Source: Azar et al. 2023, arXiv 2310.12036.

    Args:
        length_average: True averages over tokens (authors, MPO reference code, TRL 1.16); False sums (TRL 0.10.1).
    """

    def __init__(self, length_average: bool = True) -> None:
        self.length_average = length_average

    def at_start(self, beta: float) -> float:
        return 1 / (4 * beta**2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        h = average_margin(policy, reference) if self.length_average else margin(policy, reference)
        return (h - 1 / (2 * beta)) ** 2


class SPPO(PreferenceLoss):
    """(c - 1/(2 beta))^2 + (r + 1/(2 beta))^2, hard labels. Source: Wu et al. 2024, arXiv 2405.00675."""

    def at_start(self, beta: float) -> float:
        return 1 / (2 * beta**2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = log_ratios(policy, reference)
        return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2


class NCA(PreferenceLoss):
    """Noise-contrastive alignment on pairs. Source: Chen et al. 2024, arXiv 2402.05369."""

    def at_start(self, beta: float) -> float:
        return 2 * math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = (beta * ratio for ratio in log_ratios(policy, reference))
        return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


class EXO(PreferenceLoss):
    """Reverse-KL matching on pairs. Source: Ji et al. 2024, arXiv 2402.00856, eq. 16.

    Args:
        label_smoothing: share above 0, since the loss contains its logarithm; TRL 0.10.1 replaces 0 by 1e-3.
    """

    def __init__(self, label_smoothing: float = 1e-3) -> None:
        if not 0 < label_smoothing < 1:
            raise InputError(f"EXO needs a label_smoothing between 0 and 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def at_start(self, beta: float) -> float:
        return -math.log(2) - (math.log1p(-self.label_smoothing) + math.log(self.label_smoothing)) / 2

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        logits = beta * margin(policy, reference)
        log_share = torch.log(torch.tensor(self.label_smoothing, dtype=logits.dtype))
        log_rest = torch.log1p(torch.tensor(-self.label_smoothing, dtype=logits.dtype))
        won = sigmoid(logits) * (logsigmoid(logits) - log_rest)
        return won + sigmoid(-logits) * (logsigmoid(-logits) - log_share)


class APOZero(PreferenceLoss):
    """1 - sigmoid(beta c) + sigmoid(beta r): chosen up, rejected down.

    Source: D'Oosterlinck et al. 2024, arXiv 2408.06266.
    """

    def at_start(self, beta: float) -> float:
        return 1.0

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = log_ratios(policy, reference)
        return 1 - sigmoid(beta * chosen) + sigmoid(beta * rejected)


class APODown(PreferenceLoss):
    """sigmoid(beta c) + 1 - sigmoid(beta h): both down, rejected more. Source: arXiv 2408.06266."""

    def at_start(self, beta: float) -> float:
        return 1.0

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = log_ratios(policy, reference)
        return sigmoid(beta * chosen) + 1 - sigmoid(beta * (chosen - rejected))


class DiscoPOP(PreferenceLoss):
    """Log-ratio-modulated loss found by search. Source: Lu et al. 2024, arXiv 2406.08414.

    Args:
        tau: temperature of the blend between the logistic and the exponential loss.
    """

    def __init__(self, tau: float = 0.05) -> None:
        if not 0 < tau < float("inf"):
            raise InputError(f"DiscoPOP needs a tau above 0, got {tau}")
        self.tau = tau

    def at_start(self, beta: float) -> float:
        return (math.log(2) + 1) / 2

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        logits = beta * margin(policy, reference)
        blend = sigmoid(logits / self.tau)
        return -logsigmoid(logits) * (1 - blend) + torch.exp(-logits) * blend
