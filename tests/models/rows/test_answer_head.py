"""The scored head against autograd through all the logits."""

import copy

import pytest
import torch

from mpo_lightning.models.rows import answer_head
from mpo_lightning.models.rows.answer_head import AnswerHead, token_logps


@pytest.mark.parametrize("keep", [0, 2**30])
@pytest.mark.parametrize("tokens", [0, 1, 7, 30])
def test_values_and_gradients_equal_autograds(monkeypatch: pytest.MonkeyPatch, tokens: int, keep: int) -> None:
    monkeypatch.setattr(answer_head, "CHUNK_BYTES", 4 * 11 * 8)  # eight tokens a chunk
    torch.manual_seed(0)
    hidden, weight = torch.randn(tokens, 6, dtype=torch.float64), torch.randn(11, 6, dtype=torch.float64)
    targets, gradient = torch.randint(0, 11, (tokens,)), torch.randn(tokens, dtype=torch.float64)
    results = []
    for function in (
        lambda h, w: token_logps(h, w, targets, keep),
        lambda h, w: torch.log_softmax(h @ w.T, 1).gather(1, targets[:, None])[:, 0],
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        logps = function(h, w)
        logps.backward(gradient)
        results.append((logps.detach(), h.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_second_backward_pass_is_right_although_logits_were_used_up() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    logps = token_logps(hidden, weight, torch.arange(5), 2**30)
    logps.sum().backward(retain_graph=True)
    first = hidden.grad.clone()
    logps.sum().backward()
    torch.testing.assert_close(hidden.grad, 2 * first)


def test_bf16_autocast_is_as_near_to_float64_as_the_full_logits() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(64, 32), torch.randn(500, 32) / 6, torch.randint(0, 500, (64,))
    truth = torch.log_softmax(hidden.double() @ weight.double().T, 1).gather(1, targets[:, None])[:, 0]
    with torch.autocast("cpu", torch.bfloat16):
        ours = token_logps(hidden, weight, targets)
        theirs = torch.log_softmax((hidden @ weight.T).float(), 1).gather(1, targets[:, None])[:, 0]
    assert ours.dtype == torch.float32
    assert (ours - truth).abs().mean() <= 1.05 * (theirs - truth).abs().mean()


def test_it_is_the_heads_own_weight_under_its_own_name() -> None:
    head = torch.nn.Linear(6, 11, bias=False)
    scored = AnswerHead(head, 0)
    assert scored.weight is head.weight and list(scored.state_dict()) == ["weight"]
    hidden = torch.randn(3, 6)
    assert torch.equal(scored(hidden), head(hidden))


def test_memory_of_the_logits_is_used_again_and_never_by_two_at_once() -> None:
    torch.manual_seed(0)
    head = AnswerHead(torch.nn.Linear(6, 11, bias=False), 2**30)
    hidden, targets = torch.randn(5, 6, requires_grad=True), torch.arange(5)
    for off in (torch.inference_mode, torch.no_grad):
        with off():
            head(hidden, targets)
        # A chunk of one row; nothing is kept where no gradient will be asked for.
        assert head.workspace.spare is not None
    first, second = head(hidden, targets), head(2 * hidden, targets)
    expected = [torch.log_softmax(scale * hidden @ head.weight.T, 1).diagonal() for scale in (1, 2)]
    for ours, theirs in zip((first, second), expected, strict=True):
        (gradient,), (true,) = (torch.autograd.grad(logps.sum(), hidden, retain_graph=True) for logps in (ours, theirs))
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient, true)
    spare = head.workspace.spare
    assert spare is not None
    head(hidden, targets).sum().backward()
    assert head.workspace.spare is spare
    copied = copy.deepcopy(head)
    assert copied.workspace is not head.workspace and torch.equal(copied.weight, head.weight)
