"""The MPO objective: a weighted sum of the preference, quality and generation losses.

    L = 0.8 * L_preference + 0.2 * L_quality + 1.0 * L_generation

Other weights give every row of the paper's ablation: 1/0/0 is the preference loss alone; 0/0/1 is SFT and needs no
reference. Source: Wang et al. 2024, arXiv 2411.10442, section 3.2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mpo_lightning.errors import InputError
from mpo_lightning.objectives.generation import GenerationMean, generation_loss
from mpo_lightning.objectives.logps import SequenceLogps
from mpo_lightning.objectives.preference import DPO, PreferenceLoss
from mpo_lightning.objectives.quality import quality_loss


@dataclass(frozen=True)
class TermWeights:
    """Weights of the three terms. A term of weight 0 is not computed."""

    preference: float = 0.8
    quality: float = 0.2
    generation: float = 1.0


@dataclass(frozen=True)
class LossTerms:
    """The losses of each pair of a micro-batch, [P] in nats; a term of weight 0 is None.

    Attributes:
        total: weighted sum of the terms.
        preference: L_preference.
        quality: L_quality.
        generation: L_generation.
        rewards_chosen: beta * (log pi - log ref) of the chosen answers, detached; None without a reference.
        rewards_rejected: the same for the rejected answers.
    """

    total: Tensor
    preference: Tensor | None
    quality: Tensor | None
    generation: Tensor | None
    rewards_chosen: Tensor | None
    rewards_rejected: Tensor | None


class MPOObjective:
    """The MPO objective, a pure function of log-probs and delta.

    Args:
        preference: the preference loss; MPO uses DPO.
        weights: weights of the three terms.
        beta: strength of the pull towards the reference in the preference and quality terms.
        generation_mean: "sequence" is the paper's mean, "token" the reference code's.
    """

    def __init__(
        self,
        preference: PreferenceLoss | None = None,
        weights: TermWeights = TermWeights(),
        beta: float = 0.1,
        generation_mean: GenerationMean = "sequence",
    ) -> None:
        values = (weights.preference, weights.quality, weights.generation)
        if not all(0 <= value < math.inf for value in values) or not any(values):
            raise InputError(f"weights must be numbers of at least 0 and not all 0, got {values}")
        if not 0 < beta < math.inf:
            raise InputError(f"beta must be a number above 0, got {beta}")
        self.preference = preference or DPO()
        self.weights = weights
        self.beta = beta
        self.generation_mean: GenerationMean = generation_mean

    @property
    def needs_reference(self) -> bool:
        """Whether a term with a weight above 0 needs a reference."""
        return self.weights.quality > 0 or (self.weights.preference > 0 and self.preference.needs_reference)

    def at_start(self) -> float | None:
        """The weighted preference and quality loss if policy and reference are equal and delta is 0; None if unknown.

        It is 0.8 ln 2 + 0.2 * 2 ln 2 = 0.832 for MPO.
        """
        preference = self.preference.at_start(self.beta) if self.weights.preference else 0.0
        return (
            None
            if preference is None
            else self.weights.preference * preference + self.weights.quality * 2 * math.log(2)
        )

    def rewards(self, policy: SequenceLogps, reference: SequenceLogps) -> Tensor:
        """The rewards beta * (log pi - log ref), [2P] without gradient, chosen first; delta is a mean of them."""
        ratios = torch.cat([policy.chosen - reference.chosen, policy.rejected - reference.rejected])
        return self.beta * ratios.detach()

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps | None, delta: float) -> LossTerms:
        """Computes the terms of each pair.

        Args:
            policy: log-probs under the policy, with gradient.
            reference: log-probs under the reference, without gradient; may be None if `needs_reference` is False.
            delta: reward shift of this micro-batch.
        """
        if reference is None and self.needs_reference:
            raise ValueError("these weights need a reference's log-probs")
        weights = self.weights
        total = torch.zeros_like(policy.chosen)
        preference = quality = generation = None
        if weights.preference > 0:
            preference = self.preference(policy, reference or policy.detach(), self.beta)
            total = total + weights.preference * preference
        if weights.quality > 0 and reference is not None:
            chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
            quality = quality_loss(self.beta * chosen, self.beta * rejected, delta)
            total = total + weights.quality * quality
        if weights.generation > 0:
            generation = generation_loss(policy, self.generation_mean)
            total = total + weights.generation * generation
        rewards = self.rewards(policy, reference).chunk(2) if reference is not None else (None, None)
        return LossTerms(total, preference, quality, generation, *rewards)
