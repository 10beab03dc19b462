"""Loading, freezing, drop path, the tiny model, and folders that plain transformers loads."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GotOcr2ImageProcessorPil, InternVLForConditionalGeneration

from mpo_lightning.data.batch import PairBatch, collate
from mpo_lightning.data.encoding import EncodedPair
from mpo_lightning.data.pictures import open_picture
from mpo_lightning.errors import InputError
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.family import get_template
from mpo_lightning.models.freeze import freeze_parts, recompute_activations
from mpo_lightning.models.internvl.drop_path import DropPath, add_drop_path, draw_paths
from mpo_lightning.models.internvl.family import INTERNVL
from mpo_lightning.models.internvl.templates import TEMPLATES
from mpo_lightning.models.internvl.tiling import cut_tiles, normalize_tiles
from mpo_lightning.models.internvl.tiny import tiny_model
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.rows.pair_forward import PairForward
from support.turns import turn_texts


def test_the_tiny_model_is_drawn_from_its_seed() -> None:
    before = torch.random.get_rng_state()
    (one, _), (same, _), (other, _) = (tiny_model(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.state_dict() for model in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["lm_head.weight"], weights[2]["lm_head.weight"])
    assert one.num_parameters() == 1_211_584


def test_plain_transformers_loads_a_written_folder(tiny_folder: Path) -> None:
    model = InternVLForConditionalGeneration.from_pretrained(tiny_folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == get_template("Hermes-2").prompt("<IMG_CONTEXT>\nHow many?")
    ids = tokenizer("Hello?", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=3)
    assert out.shape[1] > ids.input_ids.shape[1]
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_the_written_chat_template_renders_what_the_template_does(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    model, processor = load_model(tiny_folder), load_processor(tiny_folder)
    template = get_template(name)
    marks = re.findall(r"<\|\w+\|>", template.prompt("") + template.answer("") + "".join(template.ends))
    processor.tokenizer.add_tokens(marks, special_tokens=True)
    changed = Processor(processor.tokenizer, get_template(name), processor.pictures)
    save_folder(model, changed, tmp_path / "out")
    assert load_processor(tmp_path / "out").template.name == name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    turns = [("user", "Hello?"), ("assistant", "Hi."), ("user", "And now?")]
    text = tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in turns], tokenize=False, add_generation_prompt=True
    )
    pieces = turn_texts(get_template(name), [("Hello?", "Hi."), ("And now?", "")])
    assert text == "".join(piece for piece, _ in pieces[:3])


def transparent_above(image: Image.Image) -> Image.Image:
    """The picture, ever more transparent towards its top."""
    alpha = Image.linear_gradient("L").resize(image.size)
    return Image.merge("RGBA", (*image.split(), alpha))


def of_a_key(image: Image.Image, mode: str) -> Image.Image:
    """The picture with one of its colours transparent."""
    buffer = io.BytesIO()
    keyed = image.convert(mode)
    keyed.save(buffer, "PNG", transparency=keyed.getpixel((0, 0)))
    return Image.open(buffer)


MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{mode: lambda image, mode=mode: image.convert(mode) for mode in ("RGB", "L", "1", "P", "CMYK", "YCbCr")},
    **{mode: lambda image, mode=mode: transparent_above(image).convert(mode) for mode in ("RGBA", "LA", "PA")},
    "quantized RGBA": lambda image: transparent_above(image).quantize(),
    **{f"{mode} and a key": lambda image, mode=mode: of_a_key(image, mode) for mode in ("RGB", "L", "P", "1")},
}


@pytest.mark.parametrize("name", MODES)
def test_transformers_image_processor_gives_our_pixels(name: str, tiny_folder: Path, root: Path) -> None:
    settings = json.loads((tiny_folder / "preprocessor_config.json").read_text())
    processor = GotOcr2ImageProcessorPil(
        **{key: value for key, value in settings.items() if key != "image_processor_type"}
    )
    photo = Image.open(root / "examples" / "mmpr_sample" / "images" / "photos" / "chelsea.jpg")
    buffer = io.BytesIO()
    MODES[name](photo).save(buffer, "TIFF" if name in ("CMYK", "YCbCr", "PA") else "PNG")
    theirs = processor(Image.open(buffer), return_tensors="pt")["pixel_values"]
    ours = normalize_tiles(cut_tiles(open_picture(buffer.getvalue()), 12, 112))
    torch.testing.assert_close(ours, theirs.view(-1, 3, 112, 112), rtol=0, atol=1e-6)


def test_saving_and_loading_keeps_every_weight(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_model(tiny_folder)
    save_folder(model, load_processor(tiny_folder), tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_model(tmp_path)


def test_a_folder_without_weights_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_model(copied)


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen", "cut"])
def test_weights_that_do_not_fill_the_model_are_refused(copied: Path, change: str) -> None:
    path = copied / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "q_proj.weight" in name)
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        tensors["surplus.weight"] = torch.zeros(2)
    elif change == "misshapen":
        tensors[name] = tensors[name][:3].clone()
    if change == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="weights"):
        load_model(copied)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "internvl_chat"}, "config.json has no 'llm_config'"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"image_token_id": 3}, "image_token_id is 3"),
        ({"template": "chatml"}, "unknown chat template"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copied: Path, values: dict, words: str) -> None:
    change_config(copied, **values)
    with pytest.raises(InputError, match=words):
        load_processor(copied)


def test_the_template_follows_from_the_config_or_the_language_model(copied: Path) -> None:
    assert load_processor(copied, "internvl2_5").template.name == "internvl2_5"
    change_config(copied, template=None)
    assert load_processor(copied).template.name == "Hermes-2"  # of qwen2


def test_freezing_covers_every_parameter_once() -> None:
    model, _ = tiny_model(0)
    parts = INTERNVL.parts(model)
    counted = sum(
        parameter.numel() for modules in parts.values() for module in modules for parameter in module.parameters()
    )
    assert counted == model.num_parameters()
    freeze_parts(model, ["vision_tower", "projector"])
    trained = {
        name.split(".")[1] if name.startswith("model.") else name
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    assert trained == {"language_model", "lm_head.weight"}
    with pytest.raises(InputError, match="all parts are frozen"):
        freeze_parts(model, ["vision_tower", "projector", "language_model"])


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.3).train()
    out = drop(torch.ones(20_000, 2, 3))
    values = out[:, 0, 0]
    assert torch.equal(out, values.view(-1, 1, 1).expand_as(out))
    np.testing.assert_allclose(values.unique().numpy(), [0, 1 / 0.7], rtol=1e-6)
    assert abs(float((values == 0).double().mean()) - 0.3) < 0.01 and abs(float(values.mean()) - 1) < 0.02
    assert torch.equal(drop.eval()(torch.ones(5, 2)), torch.ones(5, 2))


def test_a_row_without_seeds_forgets_the_draws_of_the_row_before() -> None:
    model, processor = tiny_model(0)
    add_drop_path(model, 0.5)
    forward = PairForward(model.train())
    tokens = torch.arange(20, 24)
    image = torch.full((16,), model.config.image_token_id)

    def row(tiles: int, seeds: tuple[int, ...]) -> PairBatch:
        pictures = torch.zeros(tiles, 3, 112, 112, dtype=torch.uint8)
        return collate(
            [EncodedPair("k", torch.cat([image.repeat(tiles), tokens]), tokens, tokens[:2], pictures)],
            processor.tile_size,
            seeds=seeds,
        )

    same = [forward(row(3, (7,)))[0].chosen.item() for _ in range(2)]
    fresh = [forward(row(2, ()))[0].chosen.item() for _ in range(6)]
    assert same[0] == same[1] and len(set(fresh)) > 1


def test_drop_path_grows_over_the_layers_on_both_branches_and_leaves_the_checkpoint_alone() -> None:
    model, _ = tiny_model(0)
    names = set(model.state_dict())
    tiles = torch.randn(2, 3, 112, 112)
    before = model.model.get_image_features(pixel_values=tiles, return_dict=True).pooler_output
    add_drop_path(model, 0.2)
    assert set(model.state_dict()) == names
    rates = [module.probability for module in model.modules() if isinstance(module, DropPath)]
    np.testing.assert_allclose(rates, [0, 0, 0.1, 0.1, 0.2, 0.2], atol=1e-6)
    after = model.eval().model.get_image_features(pixel_values=tiles, return_dict=True).pooler_output
    assert torch.equal(before, after)
    with pytest.raises(InputError, match="drop_path"):
        add_drop_path(model, 1.0)


def test_a_layer_whose_branches_are_all_dropped_is_the_identity() -> None:
    model, _ = tiny_model(0)
    add_drop_path(model, 0.5)
    layer = model.model.vision_tower.encoder.layer[-1].train()
    for module in layer.modules():
        if isinstance(module, DropPath):
            module.probability = 1 - 1e-9
    hidden = torch.randn(2, 5, 96)
    assert torch.equal(layer(hidden), hidden)


def test_what_is_recomputed_drops_what_it_dropped_whatever_was_drawn_in_between(tiny_folder: Path) -> None:
    pixels = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        model = load_model(tiny_folder)
        add_drop_path(model, 0.6)
        if checkpointing:
            recompute_activations(model)
        model.train()
        total = 0.0
        for seed in (1, 2):
            draw_paths(model, [seed], [3], pixels.device)
            total = total + model.model.get_image_features(pixel_values=pixels).pooler_output.square().sum()
        total.backward()
        gradients.append([part.grad for part in model.model.vision_tower.parameters() if part.grad is not None])
    assert len(gradients[0]) > 20
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)
