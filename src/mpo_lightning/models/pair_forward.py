"""From a batch of pairs to the log-probabilities of their answers: the straightforward way.

Chosen and rejected are two full sequences, as in the reference code: the pictures of a pair are encoded once for each, and
logits are built for every position. It is the plainest correct step, and the oracle for faster ones.

Shape letters: P pairs, T tokens, V vocabulary.
"""

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from mpo_lightning.data.batch import IGNORE, PairBatch
from mpo_lightning.data.tiling import normalize_tiles
from mpo_lightning.objectives.logps import SequenceLogps


class PairForward(nn.Module):
    """One model's pass over a batch, called through `forward` so that wrappers (DDP, FSDP, compile) see every parameter.

    Args:
        model: a policy or a reference.
    """

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PairBatch) -> SequenceLogps:
        """Log-probs of both answers of each pair, summed in float64."""
        tiles = normalize_tiles(batch.tiles)
        logits = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=torch.cat([tiles, tiles]) if len(tiles) else None,
            use_cache=False,
        ).logits
        sums, tokens = answer_logps(logits, batch.labels)
        if not len(tiles):
            sums = sums + self._touch_vision(batch)
        (chosen, rejected), (chosen_tokens, rejected_tokens) = sums.chunk(2), tokens.chunk(2)
        return SequenceLogps(chosen, rejected, chosen_tokens, rejected_tokens)

    def _touch_vision(self, batch: PairBatch) -> Tensor:
        """Zero, computed from a blank tile, so that ranks without pictures take part in the vision tower's gradient exchange."""
        parts = (self.model.model.vision_tower, self.model.model.multi_modal_projector)
        trained = any(parameter.requires_grad for part in parts for parameter in part.parameters())
        if not (trained and torch.is_grad_enabled()):
            return torch.zeros((), dtype=torch.float64, device=batch.input_ids.device)
        blank = torch.zeros(1, *batch.tiles.shape[1:], dtype=torch.uint8, device=batch.tiles.device)
        features = self.model.model.get_image_features(pixel_values=normalize_tiles(blank), return_dict=True).pooler_output
        return features.double().sum() * 0


def answer_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The log-prob of each row's labelled tokens.

    Args:
        logits: [rows, T, V] in any dtype; position t predicts token t + 1.
        labels: int64 [rows, T], -100 where nothing is scored.

    Returns:
        float64 [rows] sums in nats, and int64 [rows] counts of tokens.
    """
    targets = labels[:, 1:]
    scored = targets != IGNORE
    rows = scored.nonzero()[:, 0]
    token_logps = torch.log_softmax(logits[:, :-1][scored].float(), dim=-1).gather(1, targets[scored].unsqueeze(1)).squeeze(1)
    sums = torch.zeros(len(labels), dtype=torch.float64, device=logits.device).index_add(0, rows, token_logps.double())
    return sums, scored.sum(dim=1)
