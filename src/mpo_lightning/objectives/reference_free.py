"""Preference losses that compare with no reference."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mpo_lightning.objectives.logps import SequenceLogps
from mpo_lightning.objectives.preference import PreferenceLoss


class ORPO(PreferenceLoss):
    """-logsigmoid of the log odds ratio of the two answers' mean token probabilities, without reference and beta.

    Source: Hong et al. 2024, arXiv 2403.07691, eq. 7, which adds it to the generation loss (weights 0.1 / 0 / 1).
    """

    needs_reference = False

    def __call__(self, policy: SequenceLogps, reference: SequenceLogps, beta: float) -> Tensor:
        chosen, rejected = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
        return -logsigmoid((chosen - _log1mexp(chosen)) - (rejected - _log1mexp(rejected)))


def _log1mexp(value: Tensor) -> Tensor:
    """log(1 - exp(value)) for value <= 0. A log-prob within float32 rounding of 0 counts as -1e-7, so its odds are
    finite.
    """
    return torch.log(-torch.expm1(value.clamp(max=-1e-7)))
