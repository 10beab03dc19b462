"""Writes the files of an InternVL folder other than weights and config: tokenizer, chat template, image settings.

Plain transformers can load the result.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from mpo_lightning.data.chat_template import ChatTemplate
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.models.internvl.jinja import jinja_of
from mpo_lightning.models.internvl.tiling import IMAGE_END, IMAGE_START, IMAGE_TOKEN, IMAGENET_MEAN, IMAGENET_STD
from mpo_lightning.models.processor import Processor

ORIGINAL = "original"
"""Subfolder of a converted checkpoint that keeps the original layout's files other than weights."""

KEPT_SUFFIXES = (".json", ".py", ".model", ".txt", ".jinja")


def is_kept(name: str) -> bool:
    """Whether an original folder's file, other than weights, is kept: settings, tokenizer, Python files, licence."""
    return Path(name).suffix in KEPT_SUFFIXES or is_licence(name)


def is_licence(name: str) -> bool:
    """Whether a file says under which terms the weights may be used."""
    return name.upper().startswith(("LICENSE", "LICENCE", "NOTICE"))


PROCESSOR_TOKENS = {
    "start_image_token": IMAGE_START,
    "end_image_token": IMAGE_END,
    "context_image_token": IMAGE_TOKEN,
    # InternVL2 has no video input, but transformers' processor needs a token for it: one that no prompt contains.
    "video_token": "</quad>",
}
"""Tokens that transformers' `InternVLProcessor` reads from the tokenizer's config."""


UNTAUGHT = ("<video>",)
"""Tokens that the -hf conversion adds to a tokenizer; the table may have no row for them."""

NATIVE_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files of a native folder that another layout's code would misread."""


def save_processor(processor: Processor, output: Path) -> None:
    """Writes the tokenizer with its chat template, the image settings, and the original layout's files if there are
    any.
    """
    tokenizer = processor.tokenizer
    tokenizer.chat_template = jinja_of(processor.template, IMAGE_TOKEN, puts_bos(tokenizer))
    tokenizer.save_pretrained(output)
    _rewrite(output / "tokenizer_config.json", lambda settings: _tokenizer_settings(settings, tokenizer))
    _rewrite(output / "config.json", _model_settings)
    images = _image_settings(processor)
    # One file each, as in the published -hf folders: transformers 4.52 reads no nested ones.
    files = {
        "preprocessor_config.json": images,
        "video_preprocessor_config.json": {
            "video_processor_type": "InternVLVideoProcessor",
            "size": images["size"],
        },
        "processor_config.json": {
            "processor_class": "InternVLProcessor",
            "image_seq_length": processor.tokens_per_tile,
        },
    }
    for name, settings in files.items():
        (output / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if processor.original is not None and processor.original != output / ORIGINAL:
        shutil.copytree(processor.original, output / ORIGINAL, dirs_exist_ok=True)


def puts_bos(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a token before every text, as InternLM2's and Phi-3's do."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    settings = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tokenizer_settings(settings: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Returns a tokenizer's settings with those names that transformers 4.52 to 5 all read."""
    special = settings.get("extra_special_tokens", [])
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": [*special]
        if isinstance(special, list)
        else settings.get("additional_special_tokens", []),
        "model_input_names": ["input_ids", "attention_mask"],
    }
    fitting = set(PROCESSOR_TOKENS.values()) <= tokenizer.get_vocab().keys()
    return settings | {"extra_special_tokens": dict(PROCESSOR_TOKENS)} | PROCESSOR_TOKENS if fitting else settings


def _model_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns a config with what LMDeploy and transformers 4 look for: the language model's class, rope and dtype."""
    text = settings["text_config"]
    text["architectures"] = text.get("architectures") or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[text["model_type"]]]
    rope = dict(text.get("rope_parameters") or {})
    kind = rope.pop("rope_type", "default")
    if "rope_theta" in rope:
        text["rope_theta"] = rope.pop("rope_theta")
    if kind == "longrope":  # Phi-3 has its first length beside it, and transformers 4 wants these three fields
        text["rope_scaling"] = {"type": kind} | {name: rope[name] for name in ("short_factor", "long_factor")}
    elif kind != "default":
        text["rope_scaling"] = {"rope_type": kind} | rope
    return settings | ({"torch_dtype": settings["dtype"]} if "dtype" in settings else {})


def replace_chat_template(folder: Path, template: ChatTemplate, bos: bool) -> None:
    """Writes the template that was trained into an original folder, in place of the download's."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.pop("chat_template", None) is not None:
            path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(jinja_of(template, IMAGE_MARK, bos), encoding="utf-8")


def forget_untaught(folder: Path) -> None:
    """Removes the tokens that the -hf conversion added, and its processor's files, from an original folder."""
    for name in NATIVE_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"):
        path = folder / name
        if path.is_file():
            kept = _without(json.loads(path.read_text(encoding="utf-8")))
            path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _without(value: Any) -> Any:
    """Returns JSON without the entries that are, or are named by, a token of `UNTAUGHT`."""

    def is_one(entry: Any) -> bool:
        return (entry.get("content") if isinstance(entry, dict) else entry) in UNTAUGHT

    if isinstance(value, dict):
        return {name: _without(entry) for name, entry in value.items() if name not in UNTAUGHT and not is_one(entry)}
    return [_without(entry) for entry in value if not is_one(entry)] if isinstance(value, list) else value


def saved_max_tiles(folder: Path) -> int | None:
    """Returns the most tiles of an image that a folder's image settings allow; None if they do not say."""
    try:
        found = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8")).get("max_patches")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, int) and found > 0 else None


def _image_settings(processor: Processor) -> dict[str, Any]:
    """Returns settings for transformers' own tiling image processor.

    It then gives exactly this package's pixels of images with 8 bits a channel; it cuts 16-bit values off at 255, and
    whoever opens an image for it has to turn it upright, as `transformers.image_utils.load_image` does.
    """
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": processor.tile_size, "width": processor.tile_size},
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": processor.max_tiles,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "resample": 3,
    }
