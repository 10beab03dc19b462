"""The row of shared prefixes against the two-sequence oracle: every log-prob and every gradient."""

import copy

import pytest
import torch

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError
from mpo_lightning.models.pair_forward import PairForward
from mpo_lightning.models.shared_prefix import PrefixLayout, choose_backend
from mpo_lightning.objectives import MPOObjective, SequenceLogps
from support.families import FAMILIES, TILE_SIZE, family_model, patch_norms, random_pairs
from support.oracle import oracle_logps

ROWS = {
    "one picture": [(3, 9, 7, 5)],
    "text only": [(0, 6, 4, 9)],
    "mixed, many in a row": [(1, 5, 3, 8), (0, 4, 6, 1), (5, 12, 1, 4), (0, 3, 2, 2)],
    "long": [(2, 20, 40, 3), (0, 10, 5, 60)],
}


def losses(policy: SequenceLogps, reference: SequenceLogps) -> torch.Tensor:
    return MPOObjective()(policy, reference, delta=0.03).total.mean()


def reference_of(logps: SequenceLogps) -> SequenceLogps:
    """Constant log-probs that make every reward differ from 0."""
    shift = torch.linspace(-3, 2, len(logps.chosen), dtype=torch.float64)
    return SequenceLogps(logps.chosen.detach() + shift, logps.rejected.detach() - shift, logps.chosen_tokens, logps.rejected_tokens)


def compare(
    model: torch.nn.Module, pairs: list[EncodedPair], tolerance: float, checkpointing: bool = False, keep: int = 2**30
) -> None:
    # One pair at a time, each through a fresh copy: no company, and no past, which dynamic rope would remember.
    models = [copy.deepcopy(model) for _ in pairs]
    parts = [oracle_logps(one, [pair]) for one, pair in zip(models, pairs, strict=True)]
    expected = SequenceLogps(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("chosen", "rejected", "chosen_tokens", "rejected_tokens"))
    )
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    logps, _ = PairForward(model, keep_logits_bytes=keep)(collate(pairs, TILE_SIZE))
    for name in ("chosen", "rejected"):
        torch.testing.assert_close(getattr(logps, name), getattr(expected, name), rtol=tolerance, atol=0)
    assert torch.equal(logps.chosen_tokens, expected.chosen_tokens) and torch.equal(logps.rejected_tokens, expected.rejected_tokens)
    reference = reference_of(expected)
    ours, theirs = losses(logps, reference), losses(expected, reference)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0)
    ours.backward()
    theirs.backward()
    compared = 0
    for (name, parameter), *others in zip(model.named_parameters(), *(one.named_parameters() for one in models), strict=True):
        gradients = [other.grad for _, other in others if other.grad is not None]
        norm = sum(gradients).norm() if gradients else torch.tensor(0.0)
        if norm < 1e-9:
            assert parameter.grad is None or parameter.grad.norm() < 1e-9, name
            continue
        assert ((parameter.grad - sum(gradients)).norm() / norm) < tolerance, name
        compared += 1
    assert compared > 12


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_the_oracle_in_float64(monkeypatch: pytest.MonkeyPatch, family: str, row: str) -> None:
    patch_norms(monkeypatch)
    compare(family_model(family), random_pairs(ROWS[row]), 1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_and_recomputed_logits_are_exact(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    patch_norms(monkeypatch)
    compare(family_model(family), random_pairs(ROWS["mixed, many in a row"]), 1e-10, checkpointing=True, keep=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_stays_within_a_hundred_thousandth(family: str) -> None:
    compare(family_model(family, torch.float32), random_pairs(ROWS["mixed, many in a row"]), 1e-5)


def test_a_rows_past_does_not_change_it() -> None:
    """Dynamic rope remembers the longest call; after a long row a short one is what it was."""
    forward = PairForward(family_model("internlm2"))
    short, long = (collate(random_pairs(ROWS[name]), TILE_SIZE) for name in ("one picture", "long"))
    before = forward(short)[0].chosen
    assert not torch.equal(forward(long)[0].chosen, before[:1].expand(2))
    assert torch.equal(forward(short)[0].chosen, before)


def test_features_of_another_pass_give_the_same() -> None:
    forward = PairForward(family_model("qwen2"))
    batch = collate(random_pairs(ROWS["mixed, many in a row"]), TILE_SIZE)
    logps, features = forward(batch)
    forward.model.model.vision_tower.forward = None  # not called again
    again, same = forward(batch, features)
    assert same is features and torch.equal(again.chosen, logps.chosen) and torch.equal(again.rejected, logps.rejected)


def test_a_sliding_window_is_refused_only_when_a_sequence_is_longer() -> None:
    model = family_model("phi3")
    model.config.text_config.sliding_window = 20
    with pytest.raises(InputError, match=r"70 tokens and the model a sliding window of 20; lower data\.max_length"):
        PairForward(model)(collate(random_pairs(ROWS["long"]), TILE_SIZE))
    PairForward(model)(collate(random_pairs([(0, 6, 4, 9)]), TILE_SIZE))


def test_back_ends_that_do_not_work_here_are_named() -> None:
    cpu = torch.device("cpu")
    assert choose_backend("auto", cpu, torch.float32) == choose_backend("sdpa", cpu, torch.bfloat16) == "sdpa"
    for name in ("flash-attn", "varlen"):
        with pytest.raises(InputError, match=f"'{name}' needs a CUDA device and bf16 or fp16"):
            choose_backend(name, cpu, torch.bfloat16)


def test_the_variable_length_tables_say_what_each_token_sees() -> None:
    """Attention written out from the tables, mask aligned at the end, equals the segments' own."""
    torch.manual_seed(0)
    layout = PrefixLayout(((5, 3, 4), (2, 6, 1), (1, 1, 3)), "sdpa", torch.device("cpu"))
    total = sum(map(sum, layout.lengths))
    query, key, value = torch.randn(4, total, 8).double(), torch.randn(2, total, 8).double(), torch.randn(2, total, 8).double()
    from mpo_lightning.models.shared_prefix import _gathered, _sdpa

    expected = _sdpa(query, key, value, layout, 0.3, 0.0)
    queries, keys, values = _gathered(query, key, value, layout)
    out = torch.empty_like(queries)
    for (q0, q1), (k0, k1) in zip(
        zip(layout.query_starts, layout.query_starts[1:], strict=False),
        zip(layout.key_starts, layout.key_starts[1:], strict=False),
        strict=True,
    ):
        for row in range(q1 - q0):
            seen = slice(int(k0), int(k1 - (q1 - q0) + row + 1))  # aligned at the end: the last query sees every key
            for head in range(4):
                weights = torch.softmax(0.3 * keys[seen, head // 2] @ queries[q0 + row, head], dim=0)
                out[q0 + row, head] = weights @ values[seen, head // 2]
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
