"""Whole MPO steps of the InternVL3.5 code through the LightningModule, and that code's six faults with clean values."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from mpo_lightning.data.batch import collate
from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.errors import BadRecord
from mpo_lightning.models.loading import load_processor
from mpo_lightning.training import MPOModule
from support.golden_models import copy_golden, gradients_by_original_name, original_tensors
from support.golden_now import CHECKPOINTS, FOLDER, numbers, records

NAMES = ("internvl3_5_qwen3", "internvl3_5_qwen3_moe")


def module_of(tmp_path: Path, name: str) -> MPOModule:
    """Policy and reference of the golden steps, from original folders on disk, as the script of 3.5 trains."""
    tensors = load_file(FOLDER / "loss" / f"model_{name}" / "mpo_model_steps.safetensors")
    start = {key: value.float() for key, value in original_tensors(CHECKPOINTS / name).items()}
    changed = {
        key.removeprefix("policy_override."): value
        for key, value in tensors.items()
        if key.startswith("policy_override.")
    }
    module = MPOModule(
        str(copy_golden(CHECKPOINTS / name, tmp_path / "policy", start | changed)),
        str(copy_golden(CHECKPOINTS / name, tmp_path / "reference", start)),
        reward_shift="micro_batches",
        generation_mean="token",
    )
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    module.trainer = trainer
    module.configure_model()
    module.train()
    return module


def encoder_of(name: str, length: int = 600) -> PairEncoder:
    return load_processor(CHECKPOINTS / name, system_message="default").encoder(6, length, "truncate")


def assert_close(ours: torch.Tensor, theirs: Any) -> None:
    torch.testing.assert_close(
        ours.detach().double(), torch.as_tensor(theirs, dtype=torch.float64), rtol=1e-5, atol=1e-5
    )


def assert_step(module: MPOModule, name: str, pair_ids: list[int], step: dict[str, Any]) -> None:
    """One micro-batch has the golden log-probs, terms and shift."""
    encoder, known = encoder_of(name), records()
    batch = collate([encoder.encode(known[number]) for number in pair_ids], 56)
    terms, policy = module.losses(batch, training=True)
    assert_close(policy.chosen, step["policy_chosen_logps"])
    assert_close(policy.rejected, step["policy_rejected_logps"])
    assert policy.chosen_tokens.tolist() == step["chosen_completion_tokens"]
    assert policy.rejected_tokens.tolist() == step["rejected_completion_tokens"]
    assert_close(terms.rewards_chosen, step["chosen_rewards"])
    assert_close(terms.rewards_rejected, step["rejected_rewards"])
    assert_close(terms.generation.mean(), step["policy_nll_loss"])
    assert_close(terms.total.mean(), step["loss"])
    assert module.shift.mean == pytest.approx(step["delta_after"], abs=1e-5)
    module.zero_grad()
    terms.total.mean().backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_module_takes_the_steps_of_the_35_code(tmp_path: Path, name: str) -> None:
    """From pairs.jsonl and original checkpoints to losses and gradients, the newline behind an answer included."""
    module = module_of(tmp_path, name)
    model = module.policy.model
    for number, step in enumerate(numbers("loss", f"model_{name}", "mpo_model_steps.json")["steps"]):
        assert_step(module, name, step["pair_ids"], step)
        gradients = [part.grad for part in model.parameters() if part.grad is not None]
        assert_close(torch.nn.utils.get_total_norm(gradients), step["grad_norm_total"])
        if number:
            continue
        norms = {key: norm for key, norm in step["grad_norms"].items() if norm > 1e-6}
        by_name = gradients_by_original_name(model, list(norms), CHECKPOINTS / name)
        assert len(norms) > 50
        for key, norm in norms.items():
            torch.testing.assert_close(float(by_name[key].norm()), norm, rtol=1e-5, atol=1e-6)
        tensors = load_file(FOLDER / "loss" / f"model_{name}" / "mpo_model_steps.safetensors")
        for key in [key for key in by_name if f"grad_step0.{key}" in tensors]:
            torch.testing.assert_close(by_name[key], tensors[f"grad_step0.{key}"], rtol=1e-5, atol=1e-6)


FAULTS = {case["fault"]: case for case in numbers("loss", "model_internvl3_5_qwen3", "mpo_faults.json")["cases"]}
"""The original's faults, each with what it gives and `without_the_fault`, what it would give without."""


@pytest.mark.parametrize(
    ("fault", "differs"),
    [
        ("prompts of different length in one batch: right padding stands between prompt and answer", 0.1),
        ("id 0 (!) inside the answers", 1.0),
        ("id 0 (!) inside the prompt: the sequence is cut there", 50.0),
        ("two images: padded to max_length, padding attended and trained", 1000.0),
    ],
)
def test_a_fault_of_the_35_code_is_done_right(tmp_path: Path, fault: str, differs: float) -> None:
    """The clean value from an empty running mean, and not the original's."""
    case, name = FAULTS[fault], "internvl3_5_qwen3"
    module, encoder, known = module_of(tmp_path, name), encoder_of(name), records()
    batch = collate([encoder.encode(known[number]) for number in case["pair_ids"]], 56)
    terms, policy = module.losses(batch, training=True)
    clean = case["without_the_fault"]
    assert_close(policy.chosen, clean["policy_chosen_logps"])
    assert_close(policy.rejected, clean["policy_rejected_logps"])
    assert_close(terms.generation.mean(), clean["policy_nll_loss"])
    assert_close(terms.total.mean(), clean["loss"])
    assert module.shift.mean == pytest.approx(clean["delta_after"], abs=1e-5)
    assert (policy.chosen.detach() - torch.tensor(case["policy_chosen_logps"])).abs().max() > differs


def test_a_prompt_without_room_for_an_answer_is_refused_where_the_35_code_trains_its_last_token() -> None:
    case = FAULTS["prompt longer than max_length: its last token becomes the answer"]
    assert case["policy_chosen_logps"] == case["policy_rejected_logps"]
    encoder, (number,) = encoder_of("internvl3_5_qwen3", case["max_length"]), case["pair_ids"]
    with pytest.raises(BadRecord, match="leaves no room for an answer in 100; raise max_length"):
        encoder.encode(records()[number])


def test_rewards_are_logged_once_where_the_35_code_adds_them_for_every_term(tmp_path: Path) -> None:
    name = "internvl3_5_qwen3"
    step = numbers("loss", f"model_{name}", "mpo_model_steps.json")["steps"][0]
    module, encoder, known = module_of(tmp_path, name), encoder_of(name), records()
    terms, _ = module.losses(collate([encoder.encode(known[number]) for number in step["pair_ids"]], 56), training=True)
    logged = step["metrics"]
    for ours, theirs in ((terms.rewards_chosen, "rewards/chosen"), (terms.rewards_rejected, "rewards/rejected")):
        assert logged[theirs] == pytest.approx(2 * float(ours.mean()), abs=1e-5)
