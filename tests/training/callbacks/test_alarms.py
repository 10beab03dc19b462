"""Alarms go off for what they name, say so on the screen and in a file, and only a model of zeros stops the run."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch

from mpo_lightning.data.prompts import ShardQuestions
from mpo_lightning.data.shards.join import open_shards
from mpo_lightning.data.words import repeated_share
from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.generation import encode_prompt, generate, pad_prompts
from mpo_lightning.models.loading import load_model
from mpo_lightning.models.lora import Lora
from mpo_lightning.objectives import TermWeights
from mpo_lightning.training import Alarms, StepCheckpoint
from mpo_lightning.training.callbacks.alarms import length_drift, more_repetition
from support.runs import make_run


def test_the_share_of_repetition_by_hand() -> None:
    assert repeated_share([1, 2, 3, 4, 5, 6, 7]) == 0  # four runs, all new
    assert repeated_share([7] * 11) == 1 - 1 / 8  # eight runs, one kind
    assert repeated_share([1, 2] * 5) == 1 - 2 / 7  # seven runs: 1212 and 2121
    assert repeated_share([7] * 6) == 0  # too short to tell


@pytest.mark.parametrize(
    ("start", "now", "words"),
    [
        ((100, 1.0), (201, 1.0), "have 201 tokens and had 100"),
        ((100, 1.0), (200, 1.0), None),
        ((100, 0.5), (49, 1.0), "have 49 tokens and had 100"),
        ((100, 1.0), (150, 0.25), "75% of the sampled responses no longer end (0% at the start)"),
        ((256, 0.25), (5, 1.0), None),  # cut at the start, so their length is not known
    ],
)
def test_lengths_are_compared_where_answers_ended_at_the_start(start: tuple, now: tuple, words: str | None) -> None:
    found = length_drift(*({"tokens": tokens, "finished": finished} for tokens, finished in (start, now)))
    assert found is None if words is None else words in str(found)


@pytest.mark.parametrize(
    ("start", "now", "words"),
    [
        # One wholly degenerate answer among four, whose mean is a quarter.
        (
            [0, 0, 0, 0],
            [0, 0.97, 0, 0],
            "97% of the sampled response to '1' is repetition (0% at the start), and 0 of the 3 others",
        ),
        (
            [0, 0.1, 0, 0],
            [0, 0.97, 0.6, 0.5],
            "97% of the sampled response to '1' is repetition (10% at the start), and 1 of the 3 others",
        ),
        ([0, 0.9, 0, 0], [0.5, 0.97, 0.4, 0], None),  # it did so before; half is not more than half
        ([0.4, 0, 0, 0], [0.59, 0, 0, 0], None),
    ],
)
def test_one_answer_that_repeats_itself_is_enough(start: list, now: list, words: str | None) -> None:
    found = more_repetition(*({str(number): share for number, share in enumerate(shares)} for shares in (start, now)))
    assert found is None if words is None else words in str(found)


def lines(folder: Path, name: str) -> list[dict]:
    path = folder / "version_0" / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(
    folder: Path,
    tiny_folder: Path,
    shards: Path,
    alarms: Alarms,
    callbacks: tuple[L.Callback, ...] = (),
    **module: object,
):
    trainer, model, data = make_run(
        folder, tiny_folder, shards / "train", data={"global_batch_size": 8, "validation": str(shards / "validation")},
        trainer={"callbacks": [alarms, *callbacks]}, **module,
    )  # fmt: skip
    trainer.fit(model, data)
    return model, data


@pytest.mark.parametrize("lora", [None, Lora(rank=4)], ids=["all weights", "adapters"])
def test_samples_are_what_the_policy_answers(
    tmp_path: Path, tiny_folder: Path, shards: Path, lora: Lora | None
) -> None:
    options = {"lora": lora, "reference_source": "adapter"} if lora else {}
    model, data = run(tmp_path, tiny_folder, shards, Alarms(samples=3, max_new_tokens=10), **options)
    samples = lines(tmp_path, "samples.jsonl")
    assert [line["step"] for line in samples] == [0] * 3 + [7] * 3
    index = open_shards(str(shards / "validation"))
    prompts = [ShardQuestions(index)[number] for number in (0, len(index) // 3, 2 * len(index) // 3)]
    assert [line["key"] for line in samples] == [prompt.fields["id"] for prompt in prompts] * 2
    plain = [load_model(tiny_folder)]
    if not lora:
        save_folder(model.policy.model, data.processor, tmp_path / "saved")
        plain.append(load_model(tmp_path / "saved"))
    for number, policy in enumerate(plain):
        batch = pad_prompts([encode_prompt(data.encoder, prompt) for prompt in prompts])
        expected = [answer.text for answer in generate(policy, data.processor, batch, 10)]
        assert [line["answer"] for line in samples[3 * number : 3 * number + 3]] == expected
    assert not lines(tmp_path, "alarms.jsonl")


def test_training_is_the_same_with_and_without_samples(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    weights = [
        run(tmp_path / str(samples), tiny_folder, shards, Alarms(samples=samples, max_new_tokens=5))[
            0
        ].policy.state_dict()
        for samples in (0, 2)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not lines(tmp_path / "0", "samples.jsonl")


def test_chosen_answers_that_become_less_likely_are_told(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    downhill = {
        "optimizer": lambda groups: torch.optim.SGD(groups, lr=0.05, maximize=True),
        "weights": TermWeights(0.01, 0, 1),
    }
    with pytest.warns(
        UserWarning, match=r"alarm at step \d: over the last 2 steps chosen responses are .* nats a token less likely"
    ):
        run(tmp_path, tiny_folder, shards, Alarms(samples=0, window=2), **downhill)
    assert {line["alarm"] for line in lines(tmp_path, "alarms.jsonl")} == {"chosen_falls"}


@pytest.mark.parametrize(("uphill", "alarms"), [(True, set()), (False, {"chosen_falls"})])
def test_without_a_reference_they_are_compared_with_the_start(
    tmp_path: Path, tiny_folder: Path, shards: Path, uphill: bool, alarms: set[str]
) -> None:
    sft = {
        "optimizer": lambda groups: torch.optim.SGD(groups, lr=0.05, maximize=not uphill),
        "weights": TermWeights(0, 0, 1),
    }
    run(tmp_path, tiny_folder, shards, Alarms(samples=0, window=2, chosen_drop=0.02), **sft)
    assert {line["alarm"] for line in lines(tmp_path, "alarms.jsonl")} == alarms


def test_training_that_works_raises_none(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    run(tmp_path, tiny_folder, shards, Alarms(samples=0, window=2))
    assert not lines(tmp_path, "alarms.jsonl")


def test_samples_are_compared_with_those_of_the_start_through_a_checkpoint(
    tmp_path: Path, tiny_folder: Path, shards: Path
) -> None:
    """The tiny model repeats itself until it is cut; its start is taken for one that did not."""
    alarms = Alarms(samples=2, max_new_tokens=40)
    alarms.load_state_dict({"falls": [], "at_start": {"tokens": 100.0, "finished": 1.0, "repeated": {}}})
    with pytest.warns(UserWarning, match="alarm"):
        run(tmp_path, tiny_folder, shards, alarms)
    found = {line["alarm"]: line["words"] for line in lines(tmp_path, "alarms.jsonl") if line["step"] == 7}
    assert found["length_drifts"].startswith("100% of the sampled responses no longer end (0% at the start)")
    assert "is repetition (0% at the start), and" in found["repetition"]
    again = Alarms()
    again.load_state_dict(alarms.state_dict())
    assert again.state_dict() == alarms.state_dict()


class Zeroes(L.Callback):
    """What a broken save or kernel does to weights."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if trainer.global_step == 3:
            with torch.no_grad():
                pl_module.policy.model.lm_head.weight.zero_()


def test_weights_of_zeros_stop_the_run(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    frozen = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.0)}
    with pytest.raises(
        InputError, match=r"the weights model.lm_head.weight \(and 0 more\) turned to zeros by step 7; resume from an"
    ):
        run(tmp_path, tiny_folder, shards, Alarms(samples=0), (Zeroes(),), **frozen)


def test_no_checkpoint_of_zeros_is_written(tmp_path: Path, tiny_folder: Path, shards: Path) -> None:
    frozen = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.0)}
    every_step = StepCheckpoint(tmp_path / "checkpoints", every_n_train_steps=2, save_top_k=-1)
    with pytest.raises(InputError, match="turned to zeros by step 4"):
        run(tmp_path, tiny_folder, shards, Alarms(samples=0), (Zeroes(), every_step), **frozen)
    assert {path.stem.partition("step=")[2] for path in (tmp_path / "checkpoints").glob("*.ckpt")} == {"0", "2"}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="a chosen_drop above 0, got 4, 256, 50 and -1"):
        Alarms(chosen_drop=-1)
