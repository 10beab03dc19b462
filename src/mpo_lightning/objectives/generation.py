"""The generation loss: the chosen answer's negative log-likelihood (SFT).

The paper averages each sequence over its tokens, then averages over pairs (MPO eq. 8). The reference code averages over
all chosen tokens of a micro-batch, which is the same at its per-device batch of 1.
"""

from typing import Literal

from torch import Tensor

from mpo_lightning.objectives.logps import SequenceLogps

GenerationMean = Literal["sequence", "token"]


def generation_loss(policy: SequenceLogps, mean: GenerationMean = "sequence") -> Tensor:
    """The generation loss of each pair, [P] in nats per token; its mean over the micro-batch is the loss.

    Args:
        policy: log-probs of the policy.
        mean: "sequence" is the paper's mean; "token" is the reference code's, which weighs a pair by its share of the
            micro-batch's chosen tokens.
    """
    if mean == "sequence":
        return -policy.chosen / policy.chosen_tokens
    tokens_of_mean_pair = policy.chosen_tokens.sum() / max(1, len(policy.chosen_tokens))
    return -policy.chosen / tokens_of_mean_pair
