"""The row of shared prefixes against the two-sequence oracle: every log-prob and every gradient."""

import copy
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch.nn.attention import varlen

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.errors import InputError
from mpo_lightning.models.freeze import recompute_activations
from mpo_lightning.models.rows import shared_prefix
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.models.rows.pair_rope import rope_limit
from mpo_lightning.models.rows.prefix_layout import PrefixLayout
from mpo_lightning.models.rows.shared_prefix import choose_backend
from mpo_lightning.objectives import MPOObjective, SequenceLogps
from support.families import FAMILIES, TILE_SIZE, TOKENS_PER_TILE, family_model, patch_norms, random_pairs
from support.oracle import oracle_logps

ROWS = {
    "one picture": [(3, 9, 7, 5)],
    "text only": [(0, 6, 4, 9)],
    "mixed, many in a row": [(1, 5, 3, 8), (0, 4, 6, 1), (5, 12, 1, 4), (0, 3, 2, 2)],
    "long": [(2, 20, 40, 3), (0, 10, 5, 60)],
    "long, the longer first": [(0, 10, 5, 60), (2, 20, 32, 3)],
}


def losses(policy: SequenceLogps, reference: SequenceLogps) -> torch.Tensor:
    return MPOObjective()(policy, reference, delta=0.03).total.mean()


def reference_of(logps: SequenceLogps) -> SequenceLogps:
    """Constant log-probs that make every reward differ from 0."""
    shift = torch.linspace(-3, 2, len(logps.chosen), dtype=torch.float64)
    return SequenceLogps(
        logps.chosen.detach() + shift, logps.rejected.detach() - shift, logps.chosen_tokens, logps.rejected_tokens
    )


def compare(
    model: torch.nn.Module, pairs: list[EncodedPair], tolerance: float, checkpointing: bool = False, keep: int = 2**30
) -> None:
    # One pair at a time, each through a fresh copy: no company, and no past, which dynamic rope would remember.
    models = [copy.deepcopy(model) for _ in pairs]
    parts = [oracle_logps(one, [pair]) for one, pair in zip(models, pairs, strict=True)]
    expected = SequenceLogps(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("chosen", "rejected", "chosen_tokens", "rejected_tokens")
        )
    )
    if checkpointing:
        recompute_activations(model)
        model.train()
    logps, _ = PairForward(model, keep_logits_bytes=keep)(collate(pairs, TILE_SIZE))
    for name in ("chosen", "rejected"):
        torch.testing.assert_close(getattr(logps, name), getattr(expected, name), rtol=tolerance, atol=0)
    assert torch.equal(logps.chosen_tokens, expected.chosen_tokens) and torch.equal(
        logps.rejected_tokens, expected.rejected_tokens
    )
    reference = reference_of(expected)
    ours, theirs = losses(logps, reference), losses(expected, reference)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=0)
    ours.backward()
    theirs.backward()
    compared = 0
    for (name, parameter), *others in zip(
        model.named_parameters(), *(one.named_parameters() for one in models), strict=True
    ):
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


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_and_recomputed_logits_are_exact(
    monkeypatch: pytest.MonkeyPatch, family: str, row: str
) -> None:
    patch_norms(monkeypatch)
    compare(family_model(family), random_pairs(ROWS[row]), 1e-10, checkpointing=True, keep=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_apart_in_the_prompt_are_exact(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    patch_norms(monkeypatch)
    pairs = random_pairs([(5, 12, 4, 7), (0, 4, 3, 2), (3, 8, 2, 9)])
    for pair, first in ((pairs[0], 2), (pairs[2], 1)):
        # The first picture stays, the second moves behind the words.
        start = 2 + first * TOKENS_PER_TILE
        end = 2 + len(pair.tiles) * TOKENS_PER_TILE
        ids = pair.prompt_ids
        ids.copy_(torch.cat([ids[:start], ids[end:-1], ids[start:end], ids[-1:]]))
    compare(family_model(family), pairs, 1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_stays_within_a_hundred_thousandth(family: str) -> None:
    compare(family_model(family, torch.float32), random_pairs(ROWS["mixed, many in a row"]), 1e-5)


def test_a_rows_past_does_not_change_it() -> None:
    """Dynamic rope remembers the longest call; after a long row a short one is what it was."""
    forward = PairForward(family_model("internlm2"))
    short, long = (collate(random_pairs(ROWS[name]), TILE_SIZE) for name in ("one picture", "long"))
    # All are past the 40 positions at which this rope starts to stretch, or none: it forgets by itself in between.
    shorter = collate(random_pairs([(2, 20, 32, 3)]), TILE_SIZE)
    fresh = PairForward(family_model("internlm2"))(shorter)[0].chosen
    before = forward(short)[0].chosen
    forward(long)
    assert torch.equal(forward(shorter)[0].chosen, fresh)
    assert torch.equal(forward(short)[0].chosen, before)


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *starts: torch.Tensor, at_end: bool = True
) -> torch.Tensor:
    """What a variable-length kernel does: one dtype, causal in each sequence, aligned at the end or at the start."""
    assert query.dtype == key.dtype == value.dtype in (torch.float16, torch.bfloat16), "kernels refuse anything else"
    query_starts, key_starts = (part.tolist() for part in starts[:2])
    out = torch.empty_like(query)
    for q0, q1, k0, k1 in zip(query_starts, query_starts[1:], key_starts, key_starts[1:], strict=False):
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril((k1 - k0) - (q1 - q0) if at_end else 0)
        parts = (
            part.repeat_interleave(query.shape[1] // part.shape[1], 1).transpose(0, 1).float()
            for part in (query[q0:q1], key[k0:k1], value[k0:k1])
        )
        out[q0:q1] = (
            torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(0, 1).to(out.dtype)
        )
    return out


def stand_in_kernels(monkeypatch: pytest.MonkeyPatch, at_end: bool = True) -> None:
    """Both kernels computed on this CPU, which passes for a CUDA device."""
    flash = ModuleType("flash_attn")
    flash.flash_attn_varlen_func = lambda q, k, v, a, b, *_, **options: kernel(q, k, v, a, b, at_end=at_end)
    monkeypatch.setitem(sys.modules, "flash_attn", flash)
    monkeypatch.setattr(
        varlen, "varlen_attn", lambda q, k, v, a, b, *_, **options: kernel(q, k, v, a, b, at_end=at_end)
    )
    monkeypatch.setattr(shared_prefix, "find_spec", lambda name: True)
    monkeypatch.setattr(shared_prefix, "KERNEL_DEVICES", ("cpu",))
    shared_prefix.sees_the_prompt.cache_clear()


@pytest.mark.parametrize("backend", ["flash-attn", "varlen"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "gpt_oss"])
def test_under_bf16_autocast_the_step_is_as_near_to_float64_as_the_oracle(
    monkeypatch: pytest.MonkeyPatch, family: str, backend: str
) -> None:
    stand_in_kernels(monkeypatch)
    pairs = random_pairs(ROWS["mixed, many in a row"])
    models = [family_model(family, dtype) for dtype in (torch.float64, torch.float32, torch.float32)]
    truth = oracle_logps(models[0], pairs)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = oracle_logps(models[1], pairs)
        ours, _ = PairForward(models[2], backend)(collate(pairs, TILE_SIZE))
    reference = reference_of(truth)
    errors = []
    for model, logps in zip(models, (truth, theirs, ours), strict=True):
        losses(logps, reference).backward()
        gradients = torch.cat([part.grad.flatten().double() for part in model.parameters() if part.grad is not None])
        errors.append((torch.cat([logps.chosen, logps.rejected]).detach(), gradients))
    for number in range(2):
        true, other, mine = (error[number] for error in errors)
        assert (mine - true).norm() <= 1.25 * (other - true).norm()


def test_a_kernel_that_hides_the_prompt_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    stand_in_kernels(monkeypatch, at_end=False)
    assert choose_backend("auto", cpu, torch.bfloat16) == "sdpa"
    with pytest.raises(
        InputError, match=r"'varlen' needs a torch\.nn\.attention\.varlen that aligns causal masks at the end"
    ):
        choose_backend("varlen", cpu, torch.bfloat16)
    stand_in_kernels(monkeypatch)
    assert (
        choose_backend("auto", cpu, torch.bfloat16) == "flash-attn"
        and choose_backend("auto", cpu, torch.float32) == "sdpa"
    )


def test_features_of_another_pass_give_the_same() -> None:
    forward = PairForward(family_model("qwen2"))
    batch = collate(random_pairs(ROWS["mixed, many in a row"]), TILE_SIZE)
    logps, features = forward(batch)
    forward.model.model.vision_tower.forward = None  # not called again
    again, same = forward(batch, features)
    assert same is features and torch.equal(again.chosen, logps.chosen) and torch.equal(again.rejected, logps.rejected)


def test_a_sliding_window_shorter_than_a_sequence_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_norms(monkeypatch)
    model = family_model("phi3")
    pairs = random_pairs(ROWS["long"])
    whole = PairForward(copy.deepcopy(model))(collate(pairs, TILE_SIZE))[0]
    model.config.text_config.sliding_window = 20
    compare(model, pairs, 1e-10)
    windowed = PairForward(model)(collate(pairs, TILE_SIZE))[0]
    assert not torch.allclose(whole.chosen, windowed.chosen, rtol=1e-3)


@pytest.mark.parametrize("block", [1, 7, 16])
@pytest.mark.parametrize("family", ["qwen2", "internlm2", "phi3", "gpt_oss"])
def test_blocks_of_queries_are_exact(monkeypatch: pytest.MonkeyPatch, family: str, block: int) -> None:
    """A long answer is computed in several calls, each without the keys that none of its queries sees."""
    patch_norms(monkeypatch)
    monkeypatch.setattr(shared_prefix, "BLOCK", block)
    model = family_model(family)
    if family == "phi3":
        model.config.text_config.sliding_window = 20
    compare(model, random_pairs(ROWS["long"]), 1e-10)


def test_a_kernel_without_sinks_is_refused_by_name_and_not_taken_by_itself() -> None:
    with pytest.raises(InputError, match=r"'flash-attn' has no attention sinks.* set it to 'sdpa' or 'auto'"):
        PairForward(family_model("gpt_oss"), "flash-attn")
    assert PairForward(family_model("gpt_oss"), "auto").backend == "sdpa"


def test_back_ends_that_do_not_work_here_are_named() -> None:
    cpu = torch.device("cpu")
    assert choose_backend("auto", cpu, torch.float32) == choose_backend("sdpa", cpu, torch.bfloat16) == "sdpa"
    for name in ("flash-attn", "varlen"):
        with pytest.raises(InputError, match=f"'{name}' needs a CUDA device and bf16 or fp16"):
            choose_backend(name, cpu, torch.bfloat16)


def test_the_variable_length_tables_say_what_each_token_sees() -> None:
    """Attention written out from the tables, mask aligned at the end, equals the segments' own."""
    torch.manual_seed(0)
    layout = PrefixLayout(((5, 3, 4), (2, 6, 1), (1, 1, 3)), "sdpa", torch.device("cpu"), torch.float64)
    total = sum(map(sum, layout.lengths))
    query, key, value = (
        torch.randn(4, total, 8).double(),
        torch.randn(2, total, 8).double(),
        torch.randn(2, total, 8).double(),
    )
    from mpo_lightning.models.rows.shared_prefix import _gathered, _sdpa

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


@pytest.mark.parametrize("row", ["one picture", "mixed, many in a row"])
def test_thinking_that_is_only_read_is_no_part_of_the_log_probs(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """The first tokens of an answer stay in its context; its log-prob is that of the rest, token by token."""
    patch_norms(monkeypatch)
    model, pairs = family_model("qwen3"), random_pairs(ROWS[row])
    read = [(min(2, len(pair.chosen_ids) - 1), min(3, len(pair.rejected_ids) - 1)) for pair in pairs]
    whole = oracle_logps(model, pairs)
    begun = [
        replace(pair, chosen_ids=pair.chosen_ids[: first or 1], rejected_ids=pair.rejected_ids[: second or 1])
        for pair, (first, second) in zip(pairs, read, strict=True)
    ]
    start = oracle_logps(model, begun)
    logps, _ = PairForward(model)(
        collate([replace(pair, untrained=one) for pair, one in zip(pairs, read, strict=True)], TILE_SIZE)
    )
    for number, counts in enumerate(read):
        for side, count in zip(("chosen", "rejected"), counts, strict=True):
            expected = getattr(whole, side)[number] - (getattr(start, side)[number] if count else 0)
            torch.testing.assert_close(getattr(logps, side)[number], expected, rtol=1e-10, atol=0)
            tokens = len(getattr(pairs[number], f"{side}_ids")) - count
            assert getattr(logps, f"{side}_tokens")[number] == tokens


def question_pairs(family: str, seed: int = 0) -> list[EncodedPair]:
    """Two questions, one with a picture, with six and two pairs of few answers, and a pair of another question."""
    first, second, other = random_pairs([(2, 7, 9, 4), (0, 6, 8, 5), (1, 7, 3, 6)], seed)
    generator = torch.Generator().manual_seed(seed + 1)
    answers = [torch.randint(0, 90, (length,), generator=generator) for length in (3, 11, 6, 1, 8)]
    sides = [(0, 1), (0, 2), (3, 1), (3, 2), (4, 1), (4, 0)]
    pairs = [
        replace(first, key=f"a{n}", chosen_ids=answers[c], rejected_ids=answers[r]) for n, (c, r) in enumerate(sides)
    ]
    pairs.insert(2, replace(second, key="b0", chosen_ids=answers[1], rejected_ids=answers[4]))
    pairs.insert(5, replace(second, key="b1", chosen_ids=answers[1], rejected_ids=answers[0]))
    return [*pairs, other]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_one_question_share_it_and_their_answers_exactly(
    monkeypatch: pytest.MonkeyPatch, family: str, checkpointing: bool
) -> None:
    """Loss and every gradient are those of as many single pairs; each prompt and answer is computed once."""
    patch_norms(monkeypatch)
    pairs, model = question_pairs(family), family_model(family)
    batch = collate(pairs, TILE_SIZE, shared_length=None)
    assert [len(lengths) - 1 for lengths in batch.lengths] == [5, 3, 2] and batch.pairs == len(pairs)
    assert len(batch.tiles) == 3 and batch.tile_counts == (2, 0, 1)
    alone = copy.deepcopy(model)
    if checkpointing:
        recompute_activations(model)
        model.train()
    ours, _ = PairForward(model)(batch)
    theirs, _ = PairForward(alone)(collate(pairs, TILE_SIZE))
    reference = reference_of(theirs)
    for name in ("chosen", "rejected"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=0)
        assert torch.equal(getattr(ours, f"{name}_tokens"), getattr(theirs, f"{name}_tokens"))
    for logps in (ours, theirs):
        losses(logps, reference).backward()
    for (name, one), (_, other) in zip(model.named_parameters(), alone.named_parameters(), strict=True):
        if other.grad is not None and other.grad.norm() > 1e-9:
            assert ((one.grad - other.grad).norm() / other.grad.norm()) < 1e-10, name


def test_pairs_share_only_up_to_the_length_at_which_their_rope_would_change() -> None:
    pairs = question_pairs("internlm2")
    longest = max(len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs)
    assert len(collate(pairs, TILE_SIZE, shared_length=longest).lengths) == 3
    cut = collate(pairs, TILE_SIZE, shared_length=longest - 1)
    assert len(cut.lengths) > 3 and sum(len(lengths) == 3 for lengths in cut.lengths) > 1
    assert len(collate(pairs, TILE_SIZE).lengths) == len(pairs)


@pytest.mark.parametrize("family", ["internlm2", "qwen2_dynamic"])
def test_a_long_pair_lends_its_rope_to_no_other(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Of two pairs of a question the first is longer than the rope's first length; the second is what it is alone."""
    patch_norms(monkeypatch)
    model = family_model(family)
    limit = rope_limit(model.config.get_text_config())
    (short,) = random_pairs([(1, 6, 4, 5)])
    long = replace(short, key="long", chosen_ids=torch.arange(limit) % 80)
    batch = collate([long, short], TILE_SIZE, shared_length=limit)
    both, alone = PairForward(model)(batch)[0], PairForward(model)(collate([short], TILE_SIZE))[0]
    torch.testing.assert_close(both.chosen[1:], alone.chosen, rtol=1e-10, atol=0)
    torch.testing.assert_close(both.rejected[1:], alone.rejected, rtol=1e-10, atol=0)
