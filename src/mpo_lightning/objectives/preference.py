"""Preference losses: which of two answers is better.

Each loss is a class with its own options and one call, `(policy, reference, beta) -> [P]` in nats. A config names it
(`class_path: DPO`), or a user's own class. All are computed in the dtype of the log-probs (float64).

Notation: c = log pi(chosen) - log ref(chosen), r = the same for rejected, h = c - r.
The tests compare the numbers with TRL 0.10.1 and 1.16; where the two differ, the docstring says which one is followed.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, sigmoid

from mpo_lightning.errors import InputError
from mpo_lightning.objectives.logps import SequenceLogps


class PreferenceLoss:
    """Base class of all preference losses. Subclass it, write `__call__`, and name the class in a config."""

    needs_reference = True
    moves_reference = False
    """Whether `after_step` moves the reference, which checkpoints then hold as well."""

    def after_step(self, step: int, move_reference: Callable[[float], None]) -> None:
        """Called after every optimizer step of a loss whose `moves_reference` is true.

        Args:
            step: number of optimizer steps taken.
            move_reference: sets reference = alpha * policy + (1 - alpha) * reference for an alpha.
        """

    def at_start(self, beta: float) -> float | None:
        """The loss if policy and reference are equal, in closed form, for the start-up check; None if unknown."""
        return None

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        """Computes the loss of each pair, [P] in nats.

        Args:
            policy: log-probs under the policy, with gradient.
            reference: log-probs under the reference; the policy's own, detached, if `needs_reference` is False.
            beta: strength of the pull towards the reference.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(policy, reference, beta)")


def _log_ratios(policy: SequenceLogps, reference: SequenceLogps) -> tuple[Tensor, Tensor]:
    return policy.chosen - reference.chosen, policy.rejected - reference.rejected


def _margin(policy: SequenceLogps, reference: SequenceLogps) -> Tensor:
    chosen, rejected = _log_ratios(policy, reference)
    return chosen - rejected


def _smoothed(logits: Tensor, label_smoothing: float) -> Tensor:
    return -logsigmoid(logits) * (1 - label_smoothing) - logsigmoid(-logits) * label_smoothing


class DPO(PreferenceLoss):
    """-logsigmoid(beta h). MPO's preference term. Source: Rafailov et al. 2023, arXiv 2305.18290; MPO eq. 5."""

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return -logsigmoid(beta * _margin(policy, reference))


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
        return _smoothed(beta * _margin(policy, reference), self.label_smoothing)


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
        logits, share = beta * _margin(policy, reference), self.label_smoothing
        return (-logsigmoid(logits) * (1 - share) + logsigmoid(-logits) * share) / (1 - 2 * share)


class RSO(PreferenceLoss):
    """Hinge loss max(0, 1 - beta h). Source: Liu et al. 2023, arXiv 2309.06657 (and SLiC, arXiv 2305.10425)."""

    def at_start(self, beta: float) -> float:
        return 1.0

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return relu(1 - beta * _margin(policy, reference))


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
        margin = _average_margin(policy, reference) if self.length_average else _margin(policy, reference)
        return (margin - 1 / (2 * beta)) ** 2


class NormalizedDPO(PreferenceLoss):
    """DPO on log-probs divided by each answer's tokens (TRL 1.16's `sigmoid_norm`; Tulu 3, arXiv 2411.15124)."""

    def at_start(self, beta: float) -> float:
        return math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        return -logsigmoid(beta * _average_margin(policy, reference))


def _average_margin(policy: SequenceLogps, reference: SequenceLogps) -> Tensor:
    chosen, rejected = _log_ratios(policy, reference)
    return chosen / policy.chosen_tokens - rejected / policy.rejected_tokens


class SPPO(PreferenceLoss):
    """(c - 1/(2 beta))^2 + (r + 1/(2 beta))^2, hard labels. Source: Wu et al. 2024, arXiv 2405.00675."""

    def at_start(self, beta: float) -> float:
        return 1 / (2 * beta**2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = _log_ratios(policy, reference)
        return (chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2


class NCA(PreferenceLoss):
    """Noise-contrastive alignment on pairs. Source: Chen et al. 2024, arXiv 2402.05369."""

    def at_start(self, beta: float) -> float:
        return 2 * math.log(2)

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = (beta * ratio for ratio in _log_ratios(policy, reference))
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
        logits = beta * _margin(policy, reference)
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
        chosen, rejected = _log_ratios(policy, reference)
        return 1 - sigmoid(beta * chosen) + sigmoid(beta * rejected)


class APODown(PreferenceLoss):
    """sigmoid(beta c) + 1 - sigmoid(beta h): both down, rejected more. Source: arXiv 2408.06266."""

    def at_start(self, beta: float) -> float:
        return 1.0

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = _log_ratios(policy, reference)
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
        logits = beta * _margin(policy, reference)
        blend = sigmoid(logits / self.tau)
        return -logsigmoid(logits) * (1 - blend) + torch.exp(-logits) * blend


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
        chosen, rejected = _log_ratios(policy, reference)
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


def _check_smoothing(share: float) -> float:
    if not 0 <= share < 0.5:
        raise InputError(f"label_smoothing must be at least 0 and below 0.5, got {share}")
    return share
