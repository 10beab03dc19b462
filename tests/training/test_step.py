"""One step of the LightningModule against a plain hand-written loop, and what happens around steps."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch

from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.internvl.tiny import tiny_model, write_tiny_model
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import ORPO, TRDPO, TermWeights
from mpo_lightning.training.optimizer import parameter_groups
from support.runs import logged, make_run


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second tiny model, so that rewards differ from 0 from the first step on."""
    output = tmp_path_factory.mktemp("other") / "model"
    write_tiny_model(output, seed=1)
    return output


class Recorder(L.Callback):
    """Keeps each step's gradients."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
        named = pl_module.policy.model.named_parameters()
        self.gradients.append({name: parameter.grad.clone() for name, parameter in named})


def sequence_logp(
    model: torch.nn.Module, prompt: torch.Tensor, answer: torch.Tensor, pixels: torch.Tensor
) -> torch.Tensor:
    """Log-prob of one answer: one unpadded sequence, token after token."""
    ids = torch.cat([prompt, answer]).unsqueeze(0)
    logits = model(input_ids=ids, pixel_values=pixels if len(pixels) else None).logits[0].double()
    total = torch.zeros((), dtype=torch.float64)
    for number, token in enumerate(answer):
        row = logits[len(prompt) + number - 1]
        total = total + row[token] - torch.logsumexp(row, dim=0)
    return total


def test_steps_equal_a_plain_hand_written_loop(
    tmp_path: Path, shards: Path, tiny_folder: Path, other_folder: Path
) -> None:
    """Loss, gradients and delta of two steps of four pairs, all parameters trained."""
    recorder = Recorder()
    trainer, module, data = make_run(
        tmp_path, tiny_folder, shards / "train", reference=str(other_folder), warmup_ratio=0.0, data={"max_tiles": 12},
        trainer={"max_steps": 2, "max_epochs": None, "callbacks": [recorder]},
    )  # fmt: skip
    trainer.fit(module, data)
    losses, deltas = logged(tmp_path, "train/loss"), logged(tmp_path, "train/delta")

    policy, reference = load_model(tiny_folder), load_model(other_folder)
    encoder = load_processor(tiny_folder).encoder(12, 1024, "truncate")
    plan = data._plan("train")
    order = plan.epoch_order(0)[:8, 0].tolist()
    from mpo_lightning.data.shards.reader import ShardReader

    reader = ShardReader(plan.index)
    rewards_seen: list[float] = []
    scheduled = [0.05 * 0.5 * (1 + math.cos(math.pi * step / 2)) for step in range(2)]
    for step in range(2):
        delta = sum(rewards_seen) / len(rewards_seen) if rewards_seen else 0.0
        total, new_rewards = torch.zeros((), dtype=torch.float64), []
        for record in order[4 * step : 4 * step + 4]:
            pair = encoder.encode(reader.read(record))
            pixels = (pair.tiles.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
                [0.229, 0.224, 0.225]
            ).view(3, 1, 1)
            pc, pr = (
                sequence_logp(policy, pair.prompt_ids, answer, pixels)
                for answer in (pair.chosen_ids, pair.rejected_ids)
            )
            with torch.no_grad():
                rc, rr = (
                    sequence_logp(reference, pair.prompt_ids, answer, pixels)
                    for answer in (pair.chosen_ids, pair.rejected_ids)
                )
            good, bad = 0.1 * (pc - rc), 0.1 * (pr - rr)
            dpo = torch.log(1 + torch.exp(-(good - bad)))
            bco = torch.log(1 + torch.exp(-(good - delta))) + torch.log(1 + torch.exp(bad - delta))
            total = total + (0.8 * dpo + 0.2 * bco - pc / len(pair.chosen_ids)) / 4
            new_rewards += [float(good), float(bad)]
        policy.zero_grad()
        total.backward()
        rewards_seen += new_rewards
        assert losses[step] == pytest.approx(float(total), rel=1e-5)
        assert deltas[step] == pytest.approx(delta, rel=1e-5, abs=1e-9)
        for name, parameter in policy.named_parameters():
            difference = (recorder.gradients[step][name] - parameter.grad).norm() / parameter.grad.norm().clamp(
                min=1e-3
            )
            assert difference < 2e-5, name
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter -= scheduled[step] * parameter.grad
    assert deltas[1] != 0


def test_the_policy_trains_and_the_reference_stays_in_eval(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    modes = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            modes.append(
                (
                    pl_module.policy.training,
                    pl_module.policy.model.model.vision_tower.training,
                    pl_module.reference.training,
                    any(module.training for module in pl_module.reference.modules()),
                )
            )

    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        shards / "train",
        freeze=["vision_tower"],
        data={"validation": str(shards / "validation")},
        trainer={"max_steps": 3, "max_epochs": None, "callbacks": [Look()], "val_check_interval": 2},
    )
    before = load_model(tiny_folder).state_dict()
    trainer.fit(module, data)
    assert set(modes) == {(True, False, False, False)} and len(modes) == 6
    after = module.policy.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("vision_tower" in name for name in moved)
    assert all(torch.equal(before[name], value) for name, value in module.reference.model.state_dict().items())


def test_gradient_checkpointing_changes_nothing(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        recorder = Recorder()
        trainer, module, data = make_run(
            tmp_path / str(checkpointing),
            tiny_folder,
            shards / "train",
            gradient_checkpointing=checkpointing,
            drop_path=0.3,
            trainer={"max_steps": 1, "max_epochs": None, "callbacks": [recorder]},
        )
        trainer.fit(module, data)
        assert module.policy.model.model.language_model.gradient_checkpointing is checkpointing
        gradients.append(recorder.gradients[0])
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_warms_up_and_falls_to_zero_by_step(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    trainer, module, data = make_run(
        tmp_path, tiny_folder, shards / "train", warmup_ratio=0.2, data={"global_batch_size": 6, "micro_batch_size": 6},
        trainer={"callbacks": [L.pytorch.callbacks.LearningRateMonitor()]},
    )  # fmt: skip
    trainer.fit(module, data)
    rates = logged(tmp_path, "lr-SGD/pg1")
    expected = [0.05 * step / 2 for step in range(2)] + [
        0.05 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)
    ]
    assert rates == pytest.approx(expected)


def test_pure_bf16_is_refused(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    trainer, module, data = make_run(tmp_path, tiny_folder, shards / "train", trainer={"precision": "bf16-true"})
    with pytest.raises(
        InputError, match=r"bf16-true is not supported; weights stay float32 \(updates of 5e-6 vanish below it\)"
    ):
        trainer.fit(module, data)


def test_weight_decay_spares_biases_and_norms(tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    decayed, plain = parameter_groups(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = {names[id(parameter)] for parameter in plain["params"]}
    assert plain["weight_decay"] == 0.0 and len(decayed["params"]) + len(plain["params"]) == len(names)
    assert all("bias" in name or "norm" in name for name in spared)
    kept = {names[id(parameter)] for parameter in decayed["params"]}
    assert not any("bias" in name or "norm" in name for name in kept)
    assert any("lambda_1" in name for name in kept) and any("position_embeddings" in name for name in kept)


def test_tied_weights_are_updated_once(tiny_folder: Path, tmp_path: Path) -> None:
    model, processor = tiny_model(0)
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    save_folder(model, processor, tmp_path)
    tied = PairForward(load_model(tmp_path)).model
    groups = parameter_groups(tied)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert tied.lm_head.weight is tied.model.language_model.embed_tokens.weight
    assert (
        len(grouped)
        == len(set(grouped))
        == len(list(tied.parameters()))
        == len(list(load_model(tiny_folder).parameters())) - 1
    )


def test_a_nan_in_validation_is_logged_as_nan(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    """And not as the last value that was none; in training a NaN stops the run."""

    class Poison(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            pl_module.policy.model.lm_head.weight.data.fill_(float("nan"))

    trainer, module, data = make_run(
        tmp_path,
        tiny_folder,
        shards / "train",
        data={"validation": str(shards / "validation")},
        trainer={"callbacks": [Poison()]},
    )
    trainer.validate(module, data, verbose=False)
    for name in ("val/loss", "val/margin", "val/rewards_chosen", "val/loss_generation", "val/logps_chosen"):
        assert all(map(math.isnan, logged(tmp_path, name))) and logged(tmp_path, name)


def test_drop_path_does_not_depend_on_the_cut(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    """The same pairs lose the same branches, however a step is cut into micro-batches."""
    losses = []
    for size in (1, 4):
        trainer, module, data = make_run(
            tmp_path / str(size),
            tiny_folder,
            shards / "train",
            drop_path=0.9,
            data={"micro_batch_size": size, "global_batch_size": 4},
            trainer={"max_steps": 3, "max_epochs": None},
        )
        trainer.fit(module, data)
        losses.append((logged(tmp_path / str(size), "train/loss"), logged(tmp_path / str(size), "train/gradient_norm")))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5) and losses[0][1] == pytest.approx(
        losses[1][1], rel=1e-4
    )
    assert (
        abs(logged(tmp_path / "1", "train/rewards_chosen")[0]) > 1e-5
    )  # branches were dropped: not the reference's log-probs


def test_sft_and_orpo_load_no_reference(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    for number, options in enumerate(
        ({"weights": TermWeights(0, 0, 1)}, {"preference": ORPO(), "weights": TermWeights(0.1, 0, 1)})
    ):
        trainer, module, data = make_run(
            tmp_path / str(number),
            tiny_folder,
            shards / "train",
            trainer={"max_steps": 2, "max_epochs": None},
            **options,
        )
        trainer.fit(module, data)
        assert module.reference is None and len(logged(tmp_path / str(number), "train/loss")) == 2


def test_tr_dpo_moves_the_reference_and_saves_it(tmp_path: Path, shards: Path, tiny_folder: Path) -> None:
    trainer, module, data = make_run(
        tmp_path, tiny_folder, shards / "train", preference=TRDPO(alpha=0.5, every_n_steps=2), warmup_ratio=0.0,
        trainer={"max_steps": 3, "max_epochs": None},
    )  # fmt: skip
    weights = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
            weights.append(
                tuple(part.model.lm_head.weight.detach().clone() for part in (pl_module.policy, pl_module.reference))
            )

    trainer.callbacks.append(Look())
    trainer.fit(module, data)
    start = load_model(tiny_folder).lm_head.weight
    after_steps = weights[1::2]
    assert torch.equal(after_steps[0][1], start)
    torch.testing.assert_close(after_steps[1][1], 0.5 * start + 0.5 * after_steps[1][0])
    assert torch.equal(after_steps[2][1], after_steps[1][1])
    trainer.save_checkpoint(tmp_path / "state.ckpt")
    saved = torch.load(tmp_path / "state.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["reference.model.lm_head.weight"], after_steps[2][1])
    assert "policy.model.lm_head.weight" in saved
