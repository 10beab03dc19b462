"""A second family, LLaVA, goes the whole way: shards, two steps of training, answers.

It has other marks, other pixels, one tile a picture and no thumbnail.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from mpo_lightning.commands.fit import run
from mpo_lightning.commands.predict import predict
from mpo_lightning.data.batch import collate
from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.shards.index import open_index
from mpo_lightning.data.shards.reader import ShardReader
from mpo_lightning.data.shards.sample import tokenizer_folder
from mpo_lightning.errors import InputError
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.models import family as families
from mpo_lightning.models.family import Family, Part, PictureShape
from mpo_lightning.models.loading import load_model, load_processor
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.rows.pair_forward import PairForward

SIDE, PATCH = 32, 8
TOKENS = (SIDE // PATCH) ** 2
TOKEN = "<|patch|>"


class WholePictures:
    """A picture is squeezed into one square."""

    tile_size, tokens_per_tile, token, mark = SIDE, TOKENS, TOKEN, f"[{TOKEN}]"

    def cut(self, image: Image.Image, max_tiles: int, pictures: int) -> Tensor:
        return torch.from_numpy(np.array(image.convert("RGB").resize((SIDE, SIDE)))).permute(2, 0, 1)[None]

    def degrade(self, tiles: Tensor, rng: np.random.Generator) -> Tensor:
        return tiles

    def layout(self, image: Image.Image, max_tiles: int, pictures: int) -> tuple[int, int]:
        return 1, 1


class Llava(Family):
    """LLaVA as transformers has it, with a chat template of our own."""

    name = "LLaVA"
    layouts: ClassVar = {"llava": "transformers' layout"}
    model_class = LlavaForConditionalGeneration
    templates: ClassVar = {"plain": ChatTemplate("plain", "", "Q: ", "\nA: ", "<|im_end|>")}

    def fingerprint(self, folder: Path) -> str:
        return str((folder / "model.safetensors").stat().st_mtime_ns)

    def pictures(self, config: Any) -> WholePictures:
        return WholePictures()

    def save_processor(self, processor: Processor, output: Path) -> None:
        processor.tokenizer.save_pretrained(output)

    def parts(self, model: Any) -> dict[Part, list[nn.Module]]:
        inner = model.model
        return {
            "vision_tower": [inner.vision_tower],
            "projector": [inner.multi_modal_projector],
            "language_model": [inner.language_model, model.lm_head],
        }

    def language_model(self, model: Any) -> Any:
        return model.model.language_model

    def layers(self, model: Any) -> list[nn.Module]:
        tower = next(module for module in model.model.vision_tower.modules() if hasattr(module, "layers"))
        return [*tower.layers, *model.model.language_model.layers]

    def picture_shape(self, config: Any) -> PictureShape:
        return PictureShape(config.vision_config.image_size, TOKENS, config.image_token_id)

    def encode_pictures(self, model: Any, tiles: Tensor) -> Tensor:
        found = model.model.get_image_features(pixel_values=self._pixels(model, tiles), return_dict=True).pooler_output
        return torch.cat(list(found)).view(len(tiles), TOKENS, -1)

    def generation_inputs(self, model: Any, tiles: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": self._pixels(model, tiles)} if len(tiles) else {}

    def _pixels(self, model: Any, tiles: Tensor) -> Tensor:
        return tiles.to(model.dtype) / 127.5 - 1

    def vision_flops(self, config: Any, tiles: Any) -> Any:
        vision = config.vision_config
        return tiles * vision.num_hidden_layers * 24.0 * (TOKENS + 1) * vision.hidden_size**2


@pytest.fixture
def llava(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A tiny LLaVA's folder, its family registered."""
    monkeypatch.setattr(families, "FAMILIES", list(families.FAMILIES))
    families.register(Llava())
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder()))
    tokenizer.add_special_tokens({"additional_special_tokens": [TOKEN]})
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    token = tokenizer.convert_tokens_to_ids(TOKEN)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=token, image_token_index=token, vision_feature_layer=-1
    )
    torch.manual_seed(0)
    folder = tmp_path / "llava"
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder


def test_a_row_of_another_family_is_two_plain_sequences_of_its_own_class(llava: Path, shards: Path) -> None:
    model, processor = load_model(llava, torch.float64), load_processor(llava)
    reader = ShardReader(open_index(shards / "train"))
    pairs = [processor.encoder(12, 1024, "truncate").encode(reader.read(number)) for number in (0, 1, 30)]
    expected = []
    for pair in pairs:
        for answer in (pair.chosen_ids, pair.rejected_ids):
            ids = torch.cat([pair.prompt_ids, answer])[None]
            pixels = {"pixel_values": pair.tiles.double() / 127.5 - 1} if len(pair.tiles) else {}
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **pixels).logits[
                0, len(pair.prompt_ids) - 1 : -1
            ]
            expected.append(logits.log_softmax(-1).gather(1, answer[:, None]).sum())
    ours, _ = PairForward(model)(collate(pairs, SIDE))
    torch.testing.assert_close(ours.chosen, torch.stack(expected[::2]), rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.rejected, torch.stack(expected[1::2]), rtol=0, atol=1e-9)


def test_another_family_is_trained_and_answers(llava: Path, shards: Path, root: Path, tmp_path: Path) -> None:
    done = run(
        [
            "fit",
            "--config=recipe/mpo",
            f"--model.policy={llava}",
            f"--data.train={shards / 'train'}",
            "--trainer.accelerator=cpu",
            "--trainer.devices=1",
            "--trainer.precision=32-true",
            "--data.global_batch_size=8",
            "--data.micro_batch_size=4",
            "--data.num_workers=0",
            "--model.optimizer.lr=1e-3",
            "--model.drop_path=0",
            "--model.gradient_checkpointing=true",
            "--trainer.max_steps=2",
            f"--trainer.default_root_dir={tmp_path / 'run'}",
        ]
    )
    assert done.trainer.global_step == 2
    export = tmp_path / "run" / "version_0" / "export"
    before, after = load_model(llava).state_dict(), load_model(export).state_dict()
    assert before.keys() == after.keys() and all(
        not torch.equal(before[name], after[name]) for name in before if name.endswith("q_proj.weight")
    )
    predict(
        str(export),
        str(tmp_path / "answers.jsonl"),
        shards=str(shards / "validation"),
        max_new_tokens=4,
        engine=EngineOptions(num_workers=0),
        trainer=TrainerOptions("cpu", "1"),
    )
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 8 and all(1 <= answer["response_tokens"] <= 4 for answer in answers)


def test_what_a_family_does_not_have_is_refused(llava: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="LLaVA models have no drop path here"):
        Llava().add_drop_path(load_model(llava), 0.1)
    with pytest.raises(InputError, match="one layout only"):
        Llava().convert(llava, tmp_path / "out", "opengvlab", None, print)
