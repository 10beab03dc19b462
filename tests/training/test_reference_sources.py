"""Where reference log-probs come from: a frozen copy, the adapters off, or a cache; all give the same run."""

import json
import shutil
import signal
from hashlib import sha256
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from mpo_lightning.commands import data as commands
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.reference_cache import PART_ROW, ROW, finished_rows, part_bytes
from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.tiny import write_tiny_model
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.lora import Lora, add_adapters, merged_weights
from mpo_lightning.models.rows.pair_forward import PairForward
from mpo_lightning.objectives import TRDPO
from mpo_lightning.training import ExportPolicy, StartupCheck
from support.commands import mpo_killed_when, ranks
from support.options import nested
from support.oracle import oracle_logps
from support.processes import bytes_below
from support.runs import logged, make_run

OPTIONS = {
    "precision": "32-true",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "max_tiles": 2,
    "max_length": 1024,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def cached_shards(tmp_path_factory: pytest.TempPathFactory, sample_meta: Path, tiny_folder: Path) -> Path:
    output = tmp_path_factory.mktemp("cached") / "shards"
    commands.shard(str(sample_meta), str(output), validation=0.125, workers=1)
    commands.reference(str(tiny_folder), str(output), **nested(commands.reference, OPTIONS))
    return output


def test_the_cache_holds_the_oracles_log_probs(cached_shards: Path, tiny_folder: Path) -> None:
    index = open_index(cached_shards / "validation")
    (folder,) = (cached_shards / "validation").glob("reference-*")
    rows = np.load(folder / "logps.npy")
    encoder = load_processor(tiny_folder).encoder(12, 1024, "truncate")
    expected = oracle_logps(
        load_model(tiny_folder), [encoder.encode(ShardReader(index).read(number)) for number in range(len(index))]
    )
    assert rows["record"].tolist() == list(range(8)) and not list(folder.glob("part-*"))
    np.testing.assert_allclose(rows["chosen"], expected.chosen.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(rows["rejected"], expected.rejected.detach().numpy(), rtol=1e-5)


def test_a_cached_run_is_the_run_with_a_live_reference(tmp_path: Path, cached_shards: Path, tiny_folder: Path) -> None:
    for source in ("model", "cache"):
        trainer, module, data = make_run(
            tmp_path / source, tiny_folder, cached_shards / "train", reference_source=source,
            data={"cached_reference": source == "cache", "validation": str(cached_shards / "validation")},
            trainer={"max_steps": 4, "max_epochs": None, "val_check_interval": 4, "callbacks": [StartupCheck()]},
        )  # fmt: skip
        trainer.fit(module, data)
        assert (module.reference is None) == (source == "cache")
    for name in ("train/loss", "train/rewards_chosen", "train/delta", "train/gradient_norm", "val/margin"):
        live, cached = (logged(tmp_path / source, name) for source in ("model", "cache"))
        assert cached == pytest.approx(live, rel=1e-4, abs=1e-5) and len(live) >= 2


def test_a_cache_of_anything_else_is_refused_and_says_what_differs(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path
) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    shards = Path(shutil.copytree(cached_shards, tmp_path / "shards"))

    def fit(data: dict | None = None, **trainer: object) -> None:
        built, module, loaded = make_run(
            tmp_path / "run",
            tiny_folder,
            shards / "train",
            reference_source="cache",
            data={"cached_reference": True} | (data or {}),
            trainer=trainer,
        )
        built.fit(module, loaded)

    # A cache that sorts first and differs in more is not the one that is named.
    (shards / "train" / "reference-0").mkdir()
    (shards / "train" / "reference-0" / "meta.json").write_text(
        json.dumps({"precision": "bf16-mixed", "max_length": 7})
    )
    with pytest.raises(
        InputError, match=r"made with max_length 1024 instead of 900; make it with 'mpo data reference'"
    ):
        fit({"max_length": 900})
    with pytest.raises(InputError, match=r"made with precision 32-true instead of bf16-mixed"):
        fit(precision="bf16-mixed")
    with pytest.raises(InputError, match=r"made with model \w+ instead of \w+"):
        fit({"reference": str(tmp_path / "other")})
    with pytest.raises(InputError, match="moves its reference, which a cache and adapters cannot"):
        make_run(tmp_path, tiny_folder, cached_shards / "train", reference_source="cache", preference=TRDPO())


@pytest.mark.parametrize(("options", "words"), [
    ({"micro_batch_size": 0}, "--micro_batch_size"), ({"num_workers": -1}, "--num_workers at least 0"),
    ({"trainer.accelerator": "cud"}, "invalid accelerator"), ({"trainer.devices": "0"}, "not a valid input"),
])  # fmt: skip
def test_impossible_arguments_are_one_sentence_whether_or_not_there_is_a_cache(
    cached_shards: Path, tiny_folder: Path, options: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words) as raised:
        commands.reference(str(tiny_folder), str(cached_shards), **nested(commands.reference, OPTIONS | options))
    assert "\n" not in str(raised.value)


def test_a_bad_record_names_this_verbs_own_option(tmp_path: Path, cached_shards: Path, tiny_folder: Path) -> None:
    shutil.copytree(cached_shards, tmp_path / "shards")
    with pytest.raises(InputError, match="with --on_bad quarantine"):
        commands.reference(
            str(tiny_folder), str(tmp_path / "shards"), **nested(commands.reference, OPTIONS | {"max_length": 100})
        )


def test_another_tokenizer_is_refused_before_the_first_step(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path
) -> None:
    trainer, module, data = make_run(
        tmp_path, tiny_folder, cached_shards / "train", reference_source="cache", data={"cached_reference": True}
    )
    data.encoder.tokenizer.add_tokens(["the"])
    with pytest.raises(InputError, match="made with tokenizer"):
        trainer.fit(module, data)


@pytest.mark.parametrize("digest", [b"0" * 16, b""])
def test_a_cache_of_other_tokens_stops_the_run_and_a_record_without_logps_does_not(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path, digest: bytes
) -> None:
    shutil.copytree(cached_shards, tmp_path / "shards")
    (path,) = (tmp_path / "shards" / "train").glob("reference-*/logps.npy")
    rows = np.load(path)
    rows["digest"][7] = digest
    np.save(path, rows)
    meta = json.loads(path.with_name("meta.json").read_text())
    path.with_name("meta.json").write_text(json.dumps(meta | {"logps_sha256": sha256(path.read_bytes()).hexdigest()}))
    trainer, module, data = make_run(
        tmp_path / "run", tiny_folder, tmp_path / "shards" / "train", reference_source="cache",
        data={"cached_reference": True, "on_bad_record": "quarantine"},
    )  # fmt: skip
    if digest:
        with pytest.raises(
            InputError, match="log-probs of other tokens or pixels for it; run 'mpo data reference' again"
        ):
            trainer.fit(module, data)
    else:
        trainer.fit(module, data)
        assert "no log-probs for it" in "".join(data.quarantine.reasons.values())


def test_one_flipped_bit_in_a_cache_is_found_before_the_first_step(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path
) -> None:
    shutil.copytree(cached_shards, tmp_path / "shards")
    (path,) = (tmp_path / "shards" / "train").glob("reference-*/logps.npy")
    data = bytearray(path.read_bytes())
    data[-ROW.itemsize + 8] ^= 1  # the last bit of a log-prob's fraction
    path.write_bytes(data)
    trainer, module, loaded = make_run(
        tmp_path / "run",
        tiny_folder,
        tmp_path / "shards" / "train",
        reference_source="cache",
        data={"cached_reference": True},
    )
    with pytest.raises(
        InputError,
        match=r"the bytes of logps.npy differ from the sha256 in meta.json\); delete it and run 'mpo data ref",
    ):
        trainer.fit(module, loaded)


def test_random_augmentation_is_refused(tmp_path: Path, sample_meta: Path, tiny_folder: Path) -> None:
    meta = json.loads(sample_meta.read_text())
    for entry in meta.values():
        entry |= {
            "data_augment": True,
            "root": str(sample_meta.parent / entry["root"]),
            "annotation": str(sample_meta.parent / entry["annotation"]),
        }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    commands.shard(str(tmp_path / "meta.json"), str(tmp_path / "shards"), workers=1)
    with pytest.raises(InputError, match="data_augment, whose random pixels cannot be cached"):
        commands.reference(str(tiny_folder), str(tmp_path / "shards"), **nested(commands.reference, OPTIONS))


def test_no_bit_of_an_unfinished_row_can_turn_unseen(tmp_path: Path) -> None:
    rows = np.array([(record, -record / 3, -record / 7, bytes([65 + record] * 16)) for record in range(3)], ROW)
    data = part_bytes(rows)
    part = tmp_path / "part-0-0.bin"
    for bit in range(8 * PART_ROW.itemsize):
        turned = bytearray(data)
        turned[PART_ROW.itemsize + bit // 8] ^= 1 << bit % 8
        part.write_bytes(turned)
        assert finished_rows(tmp_path)["record"].tolist() == [0, 2], bit
    part.write_bytes(data)
    assert finished_rows(tmp_path).tobytes() == rows.tobytes()


def test_shards_elsewhere_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match=r"^https://host/shards"):
        commands.reference(str(tiny_folder), "https://host/shards", **nested(commands.reference, OPTIONS))


@pytest.mark.slow
def test_a_killed_pass_goes_on_with_other_processes_and_ends_the_same(
    tmp_path: Path, cached_shards: Path, sample_meta: Path, tiny_folder: Path
) -> None:
    shards = tmp_path / "shards"
    commands.shard(str(sample_meta), str(shards), validation=0.125, workers=1)
    arguments = [
        "data",
        "reference",
        "--model",
        str(tiny_folder),
        "--shards",
        str(shards / "train"),
        "--precision=32-true",
        "--trainer.accelerator=cpu",
        "--max_tiles=2",
        "--max_length=1024",
        "--num_workers=0",
        "--micro_batch_size=2",
    ]
    enough = 6 * PART_ROW.itemsize
    ended = mpo_killed_when(lambda: bytes_below(shards, "part-*.bin") >= enough, *arguments, "--trainer.devices=1")
    assert ended == -signal.SIGKILL
    (folder,) = (shards / "train").glob("reference-*")
    done = len(finished_rows(folder))
    assert 6 <= done < 56
    (part,) = folder.glob("part-*.bin")
    data = bytearray(part.read_bytes())
    data[PART_ROW.itemsize + 8] ^= 1  # the last bit of a log-prob's fraction
    part.write_bytes(data + b"half a row")
    assert len(finished_rows(folder)) == done - 1
    again = ranks(2, "mpo", *arguments, "--trainer.devices=2")
    assert again.returncode == 0, again.stderr
    ours, theirs = (
        np.load(next((root / "train").glob("reference-*")) / "logps.npy") for root in (shards, cached_shards)
    )
    assert folder.name == next((cached_shards / "train").glob("reference-*")).name
    assert (ours["record"] == theirs["record"]).all() and (ours["digest"] == theirs["digest"]).all()
    np.testing.assert_allclose(ours["chosen"], theirs["chosen"], rtol=1e-5)


def test_features_are_shared_only_where_nothing_of_the_pictures_is_trained(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path
) -> None:
    write_tiny_model(tmp_path / "other", seed=1)
    for options, shared in (
        ({"freeze": ["vision_tower", "projector"]}, True),
        ({"freeze": ["vision_tower"]}, False),
        ({"lora": Lora(rank=2)}, True),
        ({"freeze": ["vision_tower", "projector"], "reference": str(tmp_path / "other")}, False),
        ({"freeze": ["vision_tower", "projector"], "preference": TRDPO()}, False),
    ):
        _, module, data = make_run(tmp_path, tiny_folder, cached_shards / "train", **options)
        assert module.models.shares_features is shared
        module.configure_model()
        calls = []
        for forward in (module.policy, module.reference):
            forward.model.model.vision_tower.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        batch = data.train_dataloader().dataset[next(iter(data.train_dataloader().sampler))]
        policy, reference = module.models.logps(batch)
        assert len(batch.tiles) and len(calls) == (1 if shared else 2)
        if options.get("reference") is None:
            torch.testing.assert_close(policy.chosen.detach(), reference.chosen, rtol=1e-6, atol=1e-6)


def test_with_its_adapters_off_the_policy_is_its_own_reference(
    tmp_path: Path, cached_shards: Path, tiny_folder: Path
) -> None:
    """Three steps against a run with a whole reference model."""
    for source in ("model", "adapter"):
        L.seed_everything(0)
        trainer, module, data = make_run(
            tmp_path / source,
            tiny_folder,
            cached_shards / "train",
            reference_source=source,
            lora=Lora(rank=4, dropout=0.1),
            gradient_checkpointing=True,
            optimizer=lambda groups: torch.optim.SGD(groups, lr=5.0),
            trainer={
                "max_steps": 3,
                "max_epochs": None,
                "callbacks": [StartupCheck(), ExportPolicy(str(tmp_path / f"{source}-export"))],
            },
        )
        trainer.fit(module, data)
        assert (module.reference is None) == (source == "adapter")
        names = {name for name, parameter in module.policy.named_parameters() if parameter.requires_grad}
        assert names and all("language_model.layers" in name and "lora_" in name for name in names)
    for name in ("train/loss", "train/margin", "train/gradient_norm"):
        assert logged(tmp_path / "adapter", name) == pytest.approx(logged(tmp_path / "model", name), rel=1e-4, abs=1e-6)
    assert abs(logged(tmp_path / "adapter", "train/margin")[-1]) > 1e-3
    batch = data.train_dataloader().dataset[next(iter(data.train_dataloader().sampler))]
    module.policy.eval()
    with torch.no_grad():
        trained = module.policy(batch)[0].chosen
        exported = PairForward(load_model(tmp_path / "adapter-export"))(batch)[0].chosen
        start = PairForward(load_model(tiny_folder))(batch)[0].chosen
    torch.testing.assert_close(exported, trained, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(exported, start, rtol=1e-4)


def test_merged_weights_are_base_plus_scaled_product(tiny_folder: Path) -> None:
    model = load_model(tiny_folder)
    add_adapters(model, Lora(rank=3, alpha=12, dropout=0.0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    merged = merged_weights(model, model.state_dict())
    plain = load_model(tiny_folder)
    assert merged.keys() == plain.state_dict().keys()
    layer = model.model.language_model.layers[1].mlp.down_proj
    expected = (
        plain.model.language_model.layers[1].mlp.down_proj.weight
        + 4 * layer.lora_B.default.weight @ layer.lora_A.default.weight
    )
    torch.testing.assert_close(merged["model.language_model.layers.1.mlp.down_proj.weight"], expected)
    plain.load_state_dict(merged)


def test_impossible_combinations_are_refused(tmp_path: Path, cached_shards: Path, tiny_folder: Path) -> None:
    for options, words in (
        ({}, "the policy without its adapters"),
        ({"lora": Lora(), "reference": "elsewhere"}, ("the policy without its adapters")),
        ({"lora": Lora(), "preference": TRDPO()}, "TR-DPO moves its reference"),
        ({"keep_logits_gib": -1.0}, "keep_logits_gib must be"),
    ):
        with pytest.raises(InputError, match=words):
            make_run(tmp_path, tiny_folder, cached_shards / "train", **{"reference_source": "adapter", **options})
