"""The generation loss: the chosen answer's negative log-likelihood (SFT).

The paper takes each sequence's mean over tokens, then the mean over pairs (MPO eq. 8). The reference code takes the
mean over all chosen tokens of a micro-batch, which is the same at its per-device batch of 1.
"""

from typing import Literal

from torch import Tensor

from mpo_lightning.objectives.logps import SequenceLogps

GenerationMean = Literal["sequence", "token"]


def generation_loss(policy: SequenceLogps, mean: GenerationMean = "sequence") -> Tensor:
    """The loss of each pair, [P] in nats a token; its mean over the micro-batch is the loss.

    Args:
        policy: log-probs of the policy.
        mean: "sequence", the paper's; or "token", the reference code's, where a pair weighs by its share of the
            micro-batch's chosen tokens.
    """
    if mean == "sequence":
        return -policy.chosen / policy.chosen_tokens
    tokens_of_mean_pair = policy.chosen_tokens.sum() / max(1, len(policy.chosen_tokens))
    return -policy.chosen / tokens_of_mean_pair
