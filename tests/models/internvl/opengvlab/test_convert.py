"""Checkpoints made by the original code: the same logits natively, every bit back, and nothing half-done."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, InternVLForConditionalGeneration

from mpo_lightning.commands.model import convert
from mpo_lightning.data.prompts import Prompt
from mpo_lightning.errors import InputError
from mpo_lightning.files import whole
from mpo_lightning.files.cache_root import cache_root
from mpo_lightning.models.generation import encode_prompt
from mpo_lightning.models.internvl import native_tensors
from mpo_lightning.models.internvl.opengvlab import convert as opengvlab_convert
from mpo_lightning.models.internvl.opengvlab.cache import native_folder
from mpo_lightning.models.internvl.tiling import normalize_tiles
from mpo_lightning.models.loading import load_model, load_processor
from support.golden_models import NAMES, copy_golden, original_tensors


@pytest.fixture(scope="module")
def converted(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four golden checkpoints natively, under their names."""
    folder = tmp_path_factory.mktemp("converted")
    for name in NAMES:
        convert(str(golden / "checkpoints" / name), str(folder / name))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_plain_transformers_gives_the_original_codes_logits_and_words(golden: Path, converted: Path, name: str) -> None:
    expected = load_file(golden / "checkpoints" / name / "golden.safetensors")
    load: Callable[[], Any] = lambda: InternVLForConditionalGeneration.from_pretrained(  # noqa: E731
        converted / name, dtype=torch.float32, attn_implementation="eager"
    )
    model, pixels = load(), expected["pixel_values"]
    with torch.no_grad():
        logits = model(
            input_ids=expected["input_ids"],
            attention_mask=expected["attention_mask"],
            pixel_values=pixels[expected["image_flags"].bool()],
        ).logits
        features = model.model.get_image_features(pixel_values=pixels).pooler_output
        new = model.generate(
            input_ids=expected["gen_prompt_ids"][None],
            pixel_values=pixels[:2],
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
        )
        attended = expected["attention_mask"].bool()
        torch.testing.assert_close(logits[attended], expected["logits"][attended], rtol=0, atol=1e-5)
        torch.testing.assert_close(
            features.view_as(expected["vit_features"]), expected["vit_features"], rtol=0, atol=1e-5
        )
        assert new[0, -8:].tolist() == expected["gen_new_ids"].tolist()
        if "long_input_ids" in expected:
            long = load()(input_ids=expected["long_input_ids"]).logits
            torch.testing.assert_close(long, expected["long_logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_towers_keys_bias_is_the_middle_third(golden: Path, converted: Path, name: str) -> None:
    """No output shows it: the softmax does not see a constant added to all scores."""
    original, native = (
        original_tensors(golden / "checkpoints" / name),
        load_file(converted / name / "model.safetensors"),
    )
    found = 0
    for layer in range(2):
        bias = original.get(f"vision_model.encoder.layers.{layer}.attn.qkv.bias")
        if bias is not None:
            assert torch.equal(native[f"vision_tower.encoder.layer.{layer}.attention.k_proj.bias"], bias[64:128])
            found += 1
    assert found == (0 if name == "llama_vit6b" else 2)


@pytest.mark.parametrize("kept", [True, False], ids=["original files kept", "made from the native config"])
@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_gives_back_every_bit_and_an_equivalent_config(
    golden: Path, converted: Path, tmp_path: Path, name: str, kept: bool
) -> None:
    source = golden / "checkpoints" / name
    shutil.copytree(converted / name, tmp_path / "native")
    if not kept:
        shutil.rmtree(tmp_path / "native" / "original")
    convert(str(tmp_path / "native"), str(tmp_path / "back"), to="opengvlab")
    ours, theirs = original_tensors(tmp_path / "back"), original_tensors(source)
    assert ours.keys() == theirs.keys()
    assert all(ours[key].dtype == value.dtype and torch.equal(ours[key], value) for key, value in theirs.items())
    if kept:
        # Everything that a user had downloaded is there again.
        for path in source.iterdir():
            if path.name != "golden.json" and ".safetensors" not in path.name:
                assert json_or_bytes(tmp_path / "back" / path.name) == json_or_bytes(path), path.name
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "back"))
    for part in ("llm_config", "vision_config"):
        apart = {"auto_map", "attn_implementation", "torch_dtype"}
        if after[part].get("sliding_window", "") is None and not before[part].get("use_sliding_window"):
            apart.add("sliding_window")  # one that is not used is none
        shared = before[part].keys() & after[part].keys() - apart
        assert len(shared) > 10 and {key: before[part][key] for key in shared} == {
            key: after[part][key] for key in shared
        }
    convert(str(tmp_path / "back"), str(tmp_path / "again"))
    assert_same_model(tmp_path / "again", converted / name)


def json_or_bytes(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()


def assert_same_model(ours: Path, theirs: Path) -> None:
    for name in ("config.json", "generation_config.json", "preprocessor_config.json"):
        assert json_or_bytes(ours / name) == json_or_bytes(theirs / name)
    one, other = load_model(ours).state_dict(), load_model(theirs).state_dict()
    assert all(torch.equal(one[key], value) for key, value in other.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_gives_the_originals_ids_without_remote_code(golden: Path, converted: Path, name: str) -> None:
    recorded = json.loads((golden / "prompts" / "tokenizer_ids.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(converted / name)
    assert len(recorded[name]) > 15
    for row in recorded[name]:
        assert tokenizer(row["text"]).input_ids == row["ids"], row["text"]
        assert tokenizer(row["text"], add_special_tokens=False).input_ids == row["ids_no_special"], row["text"]
        assert tokenizer.decode(row["ids"], skip_special_tokens=True) == row["decoded_skip_special"], row["text"]
    meta = recorded[f"{name}|meta"]
    assert (len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        meta["len"], meta["bos"], meta["eos"], meta["pad"]
    )  # fmt: skip
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in meta["special"]} == meta["special"]


def test_plain_transformers_processor_makes_our_inputs(converted: Path, root: Path) -> None:
    pytest.importorskip("torchvision", reason="transformers' InternVLProcessor needs torchvision")
    picture = root / "examples" / "mmpr_sample" / "images" / "photos" / "chelsea.jpg"
    for name in NAMES:
        processor = AutoProcessor.from_pretrained(converted / name)
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        theirs = processor(images=[Image.open(picture)], text=[text], return_tensors="pt")
        encoder = load_processor(converted / name).encoder(12, 10**6, "set_aside")
        ids, tiles, _ = encode_prompt(encoder, Prompt("<image>\nHow many?", (picture.read_bytes(),)))
        assert theirs["input_ids"][0].tolist() == ids.tolist()
        # torchvision's resize differs from Pillow's by one step of 255 here and there.
        torch.testing.assert_close(theirs["pixel_values"], normalize_tiles(tiles), rtol=0, atol=0.02)


def test_the_tokenizer_says_what_transformers_processor_asks(converted: Path) -> None:
    for name in NAMES:
        tokenizer = AutoTokenizer.from_pretrained(converted / name)
        assert (tokenizer.start_image_token, tokenizer.context_image_token) == ("<img>", "<IMG_CONTEXT>")
        assert json_or_bytes(converted / name / "processor_config.json")["image_seq_length"] == 4


@pytest.mark.parametrize("tied", ["not stored", "stored"])
@pytest.mark.parametrize("name", ["qwen2_bias", "internlm2_gqa"])
def test_a_tied_head_is_the_embedding(golden: Path, tmp_path: Path, name: str, tied: str) -> None:
    source = copy_golden(golden / "checkpoints" / name, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["llm_config"]["tie_word_embeddings"] = True
    (source / "config.json").write_text(json.dumps(config))
    tensors = original_tensors(source)
    head, embedding = (
        ("language_model.output.weight", "language_model.model.tok_embeddings.weight")
        if name == "internlm2_gqa"
        else ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight")
    )
    with pytest.raises(InputError, match=r"tied, but .* is stored with other values"):
        convert(str(source), str(tmp_path / "native"))
    tensors |= {head: tensors[embedding].clone()}
    if tied == "not stored":
        del tensors[head]
    save_file(tensors, source / "model.safetensors")
    convert(str(source), str(tmp_path / "native"))
    model = load_model(tmp_path / "native")
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    convert(str(tmp_path / "native"), str(tmp_path / "back"), to="opengvlab")
    assert head not in original_tensors(tmp_path / "back")


def test_shards_are_cut_at_their_size_and_indexed(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_tensors, "SHARD_BYTES", 200_000)
    source = golden / "checkpoints" / "internlm2_gqa"
    convert(str(source), str(tmp_path / "native"))
    convert(str(tmp_path / "native"), str(tmp_path / "back"), to="opengvlab")
    for folder in ("native", "back"):
        files = sorted((tmp_path / folder).glob("*.safetensors"))
        assert len(files) > 4 and files[0].name == f"model-00001-of-{len(files):05}.safetensors"
        assert all(path.stat().st_size < 220_000 for path in files)
    ours, theirs = original_tensors(tmp_path / "back"), original_tensors(source)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items()) and ours.keys() == theirs.keys()


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = original_tensors(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


NORM = "language_model.model.norm.weight"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut weights": (lambda folder: cut(folder / "model.safetensors", 100_000), "cut short or damaged"),
    "empty weights": (lambda folder: cut(folder / "model.safetensors", 0), "cut short or damaged"),
    "a missing tensor": (lambda folder: rewrite(folder, lambda t: t.pop(NORM)), f"lacks the tensor {NORM}"),
    "a tensor too many": (
        lambda folder: rewrite(folder, lambda t: t.update({"mlp1.9.bias": t[NORM].clone()})),
        "the tensor mlp1.9.bias",
    ),
    "a wrong shape": (
        lambda folder: rewrite(folder, lambda t: t.update({NORM: torch.ones(65)})),
        (
            r"norm.weight has shape \[65\], but "
            r"config.json implies \[64\]"
        ),
    ),
    "a wrong dtype": (
        lambda folder: rewrite(folder, lambda t: t.update({NORM: torch.ones(64, dtype=torch.int32)})),
        "has dtype I32",
    ),
    "twice": (
        lambda folder: (
            save_file({NORM: torch.ones(64)}, folder / "model-2.safetensors"),
            (folder / "model.safetensors").rename(folder / "model-1.safetensors"),
        ),
        "is in two files",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        ("run code when they are opened"),
    ),
    "a missing shard": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model-9.safetensors"}}'
        ),
        ("an index that names other files"),
    ),
    "an index that lies": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model.safetensors"}}'
        ),
        ("the index places a in model.safetensors"),
    ),
    "a broken index": (
        lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        "the index cannot be read",
    ),
    "a config of another size": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(intermediate_size=256)),
        "config.json implies",
    ),
    "more layers in the config": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(num_hidden_layers=3)),
        (
            r"lacks the tensor "
            r"language_model.model.layers.2.attention.wo.weight and \d more"
        ),
    ),
    "another language model": (
        lambda folder: change_json(
            folder / "config.json", lambda c: c["llm_config"].update(architectures=["GPT2LMHeadModel"])
        ),
        ("the language model is GPT2LMHeadModel"),
    ),
    "the other pixel shuffle": (
        lambda folder: change_json(folder / "config.json", lambda c: c.update(ps_version="v1")),
        "ps_version is 'v1'",
    ),
    "an inner layer": (
        lambda folder: change_json(folder / "config.json", lambda c: c.update(select_layer=-4)),
        "select_layer is -4",
    ),
    "no template": (
        lambda folder: change_json(folder / "config.json", lambda c: c.pop("template")),
        "neither its config",
    ),
    "an unknown template": (
        lambda folder: change_json(folder / "config.json", lambda c: c.update(template="alpaca")),
        "alpaca",
    ),
    "a text as a number": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(hidden_size="big")),
        "cannot be understood",
    ),
    "a broken config": (lambda folder: cut(folder / "config.json", 100), "the config cannot be read"),
    "no tokenizer model": (lambda folder: (folder / "tokenizer.model").unlink(), "no tokenizer here"),
    "a cut tokenizer model": (lambda folder: cut(folder / "tokenizer.model", 5000), "cut short"),
    "no tokenizer config": (
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        ("tokenizer_config.json: cannot be read"),
    ),
    "a rope of no kind": (
        lambda folder: change_json(
            folder / "config.json", lambda c: c["llm_config"].update(rope_scaling={"type": "x", "factor": 2})
        ),
        "config.json",
    ),
    "a rope that is a text": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(rope_scaling="x")),
        "cannot be understood",
    ),
    "no key-value head": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(num_key_value_heads=0)),
        "config.json",
    ),
    "an activation of no kind": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(hidden_act="x")),
        "no model can be made",
    ),
    "a norm of no kind": (
        lambda folder: change_json(folder / "config.json", lambda c: c["vision_config"].update(norm_type="x")),
        "no model can be made",
    ),
    "a pad token that is none": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(pad_token_id=9999)),
        "pad_token_id 9999 is beyond",
    ),
    "a tower that is a list": (
        lambda folder: change_json(folder / "config.json", lambda c: c.update(vision_config=[1])),
        "config.json",
    ),
    "a shuffle that is not named": (
        lambda folder: change_json(folder / "config.json", lambda c: c.pop("ps_version")),
        "ps_version is 'v1'",
    ),
    "another epsilon with q/k norm": (
        lambda folder: change_json(
            folder / "config.json", lambda c: c["vision_config"].update(qk_normalization=True, layer_norm_eps=1e-5)
        ),
        "layer_norm_eps is 1e-05",
    ),
    "special tokens that are a number": (
        lambda folder: change_json(folder / "tokenizer_config.json", lambda c: c.update(additional_special_tokens=5)),
        "cannot be understood",
    ),
    "a token without a name": (
        lambda folder: change_json(folder / "tokenizer_config.json", lambda c: c.update(eos_token={"x": 1})),
        "cannot be understood",
    ),
    "a cut tokenizer.json": (
        lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0", "mod'),
        ("the tokenizer cannot be loaded"),
    ),
    "a missing shard of several": (
        lambda folder: (
            (folder / "model.safetensors").rename(folder / "model-1.safetensors"),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-9.safetensors"}}'),
        ),
        ("model-9.safetensors, which is missing"),
    ),
    "a template of another family": (
        lambda folder: change_json(folder / "config.json", lambda c: c.update(template="phi3-chat")),
        "the tokenizer has no <|end|>".replace("|", r"\|"),
    ),
    "too few embeddings": (
        lambda folder: change_json(folder / "config.json", lambda c: c["llm_config"].update(vocab_size=600)),
        "the tokenizer has 615 tokens and the model 600",
    ),
    "a gap in the ids": (
        lambda folder: change_json(folder / "tokenizer_config.json", lambda c: c["added_tokens_decoder"].pop("607")),
        ("token '<IMG_CONTEXT>' has id 608, but there are 607 tokens before it"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_carried_over_is_named_and_leaves_nothing(golden: Path, tmp_path: Path, damage: str) -> None:
    source = copy_golden(golden / "checkpoints" / "internlm2_gqa", tmp_path / "source")
    (source / "model.safetensors.index.json").unlink(missing_ok=True)
    change, words = DAMAGE[damage]
    change(source)
    with pytest.raises(InputError, match=words) as raised:
        convert(str(source), str(tmp_path / "out" / "native"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_full_disk_leaves_no_folder(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpo_lightning.models.tensor_files.save_file", full)
    with pytest.raises(InputError, match=r"the weights cannot be written .*No space left"):
        convert(str(golden / "checkpoints" / "qwen2_bias"), str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_conversion_is_not_taken_for_a_whole_one(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder has another name until it is whole; a later run starts over."""
    monkeypatch.setattr(whole.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(opengvlab_convert, "save_processor", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert(str(golden / "checkpoints" / "qwen2_bias"), str(tmp_path / "out"))
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and left.name.endswith(".partial")
    # As if another process had died: no process has this number.
    left.rename(left.with_name(left.name.replace(f"-{os.getpid()}.", "-4194304.")))
    monkeypatch.undo()
    convert(str(golden / "checkpoints" / "qwen2_bias"), str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_that_do_not_fit_the_question_are_refused(golden: Path, converted: Path, tmp_path: Path) -> None:
    original, native = golden / "checkpoints" / "qwen2_bias", converted / "qwen2_bias"
    with pytest.raises(InputError, match="in the transformers layout already"):
        convert(str(native), str(tmp_path / "out"))
    with pytest.raises(InputError, match="in the opengvlab layout already"):
        convert(str(original), str(tmp_path / "out"), to="opengvlab")
    with pytest.raises(InputError, match="no model here"):
        convert(str(tmp_path / "nothing"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="--like is for --to opengvlab"):
        convert(str(original), str(tmp_path / "out"), like=str(original))
    with pytest.raises(
        InputError, match=r"its text_config.vocab_size is 623, but .* has 632; give the original of the same model"
    ):
        convert(str(native), str(tmp_path / "out"), to="opengvlab", like=str(golden / "checkpoints" / "llama_vit6b"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="the folder is not empty"):
        convert(str(original), str(tmp_path / "full"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["llm_config"].update(rope_theta=10000), "text_config.rope_parameters"),
        (lambda c: c["llm_config"].update(num_key_value_heads=4), "text_config.num_key_value_heads"),
        (lambda c: c["llm_config"].update(rms_norm_eps=0.001), "text_config.rms_norm_eps"),
        (lambda c: c.update(template="internvl2_5"), "its template is internvl2_5"),
    ],
)
def test_another_models_settings_are_not_written_back(
    golden: Path, converted: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    like = copy_golden(golden / "checkpoints" / "internlm2_gqa", tmp_path / "like")
    change_json(like / "config.json", change)
    with pytest.raises(InputError, match=words):
        convert(str(converted / "internlm2_gqa"), str(tmp_path / "out"), to="opengvlab", like=str(like))


def test_two_that_write_one_output_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"), whole.whole_folder(tmp_path / "out") as mine:
        (mine / "a").write_text("mine")
        # Another process ends first.
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a").write_text("theirs")
    assert (tmp_path / "out" / "a").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_a_copy_that_lost_a_file_is_made_again(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    source = copy_golden(golden / "checkpoints" / "qwen2_bias", tmp_path / "source")
    (native_folder(source) / "tokenizer.json").unlink()
    assert load_processor(source).template.name == "Hermes-2"
    assert capsys.readouterr().err.count("converting it once") == 2


def test_files_of_a_complete_download_come_back_with_like(golden: Path, converted: Path, tmp_path: Path) -> None:
    source = copy_golden(golden / "checkpoints" / "internlm2_gqa", tmp_path / "source")
    (source / "modeling_internvl_chat.py").write_text("raise SystemExit('this must never run')\n")
    shutil.copytree(converted / "internlm2_gqa", tmp_path / "native")
    shutil.rmtree(tmp_path / "native" / "original")
    convert(str(tmp_path / "native"), str(tmp_path / "back"), to="opengvlab", like=str(source))
    for name in ("modeling_internvl_chat.py", "tokenizer.model", "tokenizer_config.json", "config.json"):
        assert json_or_bytes(tmp_path / "back" / name) == json_or_bytes(source / name)


def test_every_verb_opens_an_original_folder_through_one_copy(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPO_LIGHTNING_CACHE", str(tmp_path / "cache"))
    source = copy_golden(golden / "checkpoints" / "internlm2_gqa", tmp_path / "source")
    assert native_folder(tmp_path) == tmp_path
    model, processor = load_model(source), load_processor(source)
    assert capsys.readouterr().err.count("converting it once") == 1
    assert processor.template.name == "internlm2-chat" and processor.original is not None
    copies = [path for path in (cache_root() / "converted").iterdir() if path.is_dir()]
    assert copies == [native_folder(source)]
    rewrite(source, lambda tensors: tensors.update({NORM: torch.zeros(64)}))
    os.utime(source / "model.safetensors", ns=(1, 1))
    assert not torch.equal(load_model(source).model.language_model.norm.weight, model.model.language_model.norm.weight)
    assert native_folder(source) not in copies


def test_random_bytes_never_crash_the_reading_of_a_tokenizer(golden: Path, tmp_path: Path) -> None:
    from mpo_lightning.models.internvl.opengvlab.sentencepiece import read_piece_model

    data = bytearray((golden / "checkpoints" / "internlm2_gqa" / "tokenizer.model").read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 20):
            damaged[place] = int(rng.integers(0, 256))
        (tmp_path / "tokenizer.model").write_bytes(damaged)
        try:
            read_piece_model(tmp_path / "tokenizer.model")
        except InputError:
            refused += 1
    assert refused > 100


def test_a_tokenizer_without_its_words_is_refused(golden: Path, tmp_path: Path) -> None:
    source = copy_golden(golden / "checkpoints" / "qwen2_bias", tmp_path / "source")
    for name in ("vocab.json", "merges.txt"):
        (source / name).unlink()
    with pytest.raises(InputError, match="no tokenizer here"):
        convert(str(source), str(tmp_path / "out"))
    (source / "vocab.json").write_text('{"a": 0}')
    (source / "merges.txt").write_text("")
    with pytest.raises(InputError, match=r"is incomplete|cannot be loaded"):
        convert(str(source), str(tmp_path / "out"))


def test_licences_come_along_and_places_that_cannot_be_taken_are_refused(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_golden(golden / "checkpoints" / "qwen2_bias", tmp_path / "source")
    (source / "LICENSE").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    convert(str(source), str(tmp_path / "link"))
    assert (tmp_path / "real" / "original" / "LICENSE").read_text() == "mine"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="choose one inside it"):
        convert(str(source), ".")
