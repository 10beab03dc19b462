"""Log-probabilities of a row's responses, with everything that responses share computed once.

Images are encoded once per question, the prompt passes through the language model once (see `shared_prefix`), and the
head sees response tokens only (see `answer_head`). The reference code's two-sequence step gives the same numbers and
gradients; the tests use it as the oracle.

Shape letters: P pairs, T tokens of the row, R response tokens, N tiles, E hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mpo_lightning.data.batch import PairBatch
from mpo_lightning.models.family import family_of
from mpo_lightning.models.internals import attention_of, register_experts, set_attention, set_experts
from mpo_lightning.models.rows.answer_head import AnswerHead
from mpo_lightning.models.rows.pair_rope import PairRope
from mpo_lightning.models.rows.prefix_layout import Backend, PrefixLayout
from mpo_lightning.models.rows.shared_prefix import NAME, backend_for, choose_backend
from mpo_lightning.objectives.logps import SequenceLogps

EXPERTS = "mpo_experts"
"""Name of the experts' function in transformers' ExpertsInterface."""

register_experts(EXPERTS)


class PairForward(nn.Module):
    """A model's forward pass over a row of pairs.

    It is called through `forward`, so that wrappers (DDP, FSDP, compile) see every parameter. The model keeps its names
    and weights, but its language model attends by `shared_prefix` from then on.

    Args:
        model: a policy or a reference model.
        backend: attention backend; "auto" takes the fastest that device and dtype allow.
        keep_logits_bytes: largest logits of a row, in bytes, that are kept for the backward pass instead of recomputed.

    Raises:
        InputError: the named backend cannot compute this model's attention.
    """

    def __init__(self, model: Any, backend: Backend = "auto", keep_logits_bytes: int = 2**30) -> None:
        super().__init__()
        self.model = model
        self.family = family_of(model)
        self.backend: Backend = backend_for(model, backend)
        self.sharded = False
        """Whether the weights are sharded, so that every rank must run every layer whatever its row holds."""
        text_config = model.config.get_text_config()
        self.own_attention = "sdpa" if attention_of(text_config) in ("sdpa", NAME) else attention_of(text_config)
        """The attention for generation: sdpa where transformers has it for this language model."""
        set_attention(text_config, NAME)
        set_experts(text_config, EXPERTS)
        if not isinstance(model.get_output_embeddings(), AnswerHead):
            model.set_output_embeddings(AnswerHead(model.get_output_embeddings(), keep_logits_bytes))
        language_model = self.family.language_model(model)
        if not isinstance(language_model.rotary_emb, PairRope):
            language_model.rotary_emb = PairRope(language_model.rotary_emb)

    def forward(self, batch: PairBatch, features: Tensor | None = None) -> tuple[SequenceLogps, Tensor | None]:
        """Computes the log-probs of both responses of each pair, summed in float64, and the image features.

        Args:
            batch: the row.
            features: [N, tokens per tile, E] from another model's pass over the same row, if both have the same tower
                and projector.

        Returns:
            The log-probs and the features; the features are None for a row without images. For such a row a sharded
                model returns the features of a blank tile, which are not used.
        """
        if features is None and len(batch.tiles):
            self.family.draw_paths(self.model, batch.seeds, batch.tile_counts, batch.tiles.device)
            features = self.family.encode_pictures(self.model, batch.tiles)
        elif features is None and self.sharded:
            self.family.draw_paths(self.model, (), (), batch.tiles.device)
            features = self.family.encode_pictures(self.model, batch.tiles.new_zeros(1, *batch.tiles.shape[1:]))
        embeddings = self.model.get_input_embeddings()(batch.input_ids)
        if features is not None:
            places = (batch.input_ids == self.family.picture_shape(self.model.config).token_id).unsqueeze(1)
            embeddings = embeddings.masked_scatter(places, features.to(embeddings.dtype))
        hidden = self._language_model(embeddings, batch)
        token_logps = self.model.get_output_embeddings()(hidden.index_select(0, batch.predictors), batch.targets)
        sums = torch.zeros(batch.answer_count, dtype=torch.float64, device=hidden.device).index_add(
            0, batch.answers, token_logps.double()
        )
        if features is None:
            sums = sums + self._touch_vision(batch)
        ones = torch.ones_like(batch.answers)
        counts = torch.zeros(batch.answer_count, dtype=ones.dtype, device=ones.device).index_add(0, batch.answers, ones)
        chosen, rejected = batch.chosen, batch.rejected
        return SequenceLogps(sums[chosen], sums[rejected], counts[chosen], counts[rejected]), features

    @torch.no_grad()
    def generate(self, **options: Any) -> Tensor:
        """Calls the model's own `generate` with the attention that it needs; takes the same options."""
        with self.plain_attention():
            rows: Tensor = self.model.generate(**options)
        return rows

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """Lets the model attend as transformers does inside the context, for calls that are no row of pairs."""
        text_config = self.model.config.get_text_config()
        self.family.language_model(self.model).rotary_emb.tokens_of_questions = ()
        set_attention(text_config, self.own_attention)
        try:
            yield
        finally:
            set_attention(text_config, NAME)

    def _language_model(self, embeddings: Tensor, batch: PairBatch) -> Tensor:
        """Returns hidden states [T, E]."""
        device = embeddings.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embeddings.dtype
        layout = PrefixLayout(
            batch.lengths, choose_backend(self.backend, embeddings.device, dtype), embeddings.device, dtype
        )
        language_model = self.family.language_model(self.model)
        language_model.rotary_emb.tokens_of_questions = tuple(map(sum, batch.lengths))
        output = language_model(
            inputs_embeds=embeddings.unsqueeze(0),
            position_ids=self.family.positions(batch),
            use_cache=False,
            prefix_layout=layout,
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _touch_vision(self, batch: PairBatch) -> Tensor:
        """Returns zero, computed from the trained vision parameters.

        Ranks without images then still take part in the reduction of these parameters' gradients.
        """
        parts = self.family.parts(self.model)
        modules = [*parts["vision_tower"], *parts["projector"]]
        trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        zero = torch.zeros((), dtype=torch.float64, device=batch.input_ids.device)
        if not torch.is_grad_enabled():
            return zero
        return sum((parameter.flatten()[:0].sum().double() for parameter in trained), zero)
