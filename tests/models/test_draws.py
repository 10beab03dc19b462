"""Drawn tokens: from the right distribution, by their own generator, and the same where the prompt is read once for
several answers.
"""

from pathlib import Path

import pytest
import torch

from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import InputError
from mpo_lightning.models.draws import Draws
from mpo_lightning.models.freeze import freeze
from mpo_lightning.models.generation import encode_prompt, generate, pad_prompts
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.sampling import Sampling


def drawn(sampling: Sampling, logits: torch.Tensor, numbers: list[int], steps: int) -> torch.Tensor:
    """int64 [steps, rows]"""
    draws = Draws(sampling, numbers)
    ids = torch.zeros(len(numbers), 1, dtype=torch.long)
    return torch.stack([draws(ids, logits).argmax(-1) for _ in range(steps)])


def test_frequencies_are_the_softmax() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, -torch.inf]]).repeat(40, 1)
    found = drawn(Sampling(0.7, 0, 1.0, 5), logits, list(range(40)), 500).flatten()
    expected = (logits[0] / 0.7).softmax(-1)
    frequencies = torch.bincount(found, minlength=5) / len(found)
    assert (frequencies - expected).abs().max() < 0.012 and frequencies[4] == 0


def test_limits_leave_the_likeliest() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(20, 1)
    assert set(drawn(Sampling(1.0, 2, 1.0), logits, list(range(20)), 50).flatten().tolist()) == {0, 1}
    assert set(drawn(Sampling(1.0, 0, 0.5), logits, list(range(20)), 50).flatten().tolist()) == {0}


def test_a_rows_draws_do_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    together = drawn(Sampling(), logits, [7, 3, 9, 1, 4, 2], 20)
    alone = drawn(Sampling(), logits[2:3], [9], 20)
    assert torch.equal(together[:, 2], alone[:, 0])
    assert not torch.equal(together[:, 2], drawn(Sampling(seed=1), logits[2:3], [9], 20)[:, 0])


def test_what_cannot_be_drawn_with_is_refused() -> None:
    for wrong in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(InputError, match="sampling needs a temperature above 0"):
            Sampling(**wrong)  # type: ignore[arg-type]


def test_prompts_that_are_read_once_give_the_answers_of_prompts_that_are_read_for_each(
    root: Path, tiny_folder: Path
) -> None:
    """With pictures and without, of different lengths in one batch."""
    photo = sorted((root / "examples/mmpr_sample/images/photos").iterdir())[0].read_bytes()
    processor = load_processor(tiny_folder)
    model = freeze(load_model(tiny_folder, torch.float32))
    encoder = processor.encoder(4, 2048, "set_aside")
    encoded = [
        encode_prompt(encoder, prompt)
        for prompt in (Prompt("<image>\nWhat is this?", (photo,)), Prompt("Count to ten."))
    ]
    numbers, rows = list(range(5)), [0, 0, 0, 1, 1]
    once = generate(model, processor, pad_prompts(encoded), 12, draws=Draws(Sampling(), numbers), rows=rows)
    each = generate(model, processor, pad_prompts([encoded[row] for row in rows]), 12, draws=Draws(Sampling(), numbers))
    assert once == each and len({answer.text for answer in once}) == 5
