"""Converts checkpoints between the original layout and transformers', tensor by tensor.

Conversion is strict in both directions: every source tensor is used once, and every target tensor is filled once. Names
and shapes are checked before anything is written. Numbers are moved, never computed, so a round trip restores every
bit. The output folder appears under its name only when it is complete.

A native folder keeps the original's other files (config.json, tokenizer files, Python files that are never run) in
`original/`. Converting back restores them, for tools that need the original layout.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpo_lightning.data.chat_template import PromptChoice
from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import whole_folder
from mpo_lightning.models.export import generation_config
from mpo_lightning.models.internvl.native_tensors import (
    NATIVE_HEAD,
    Progress,
    drop_tied_head,
    native_shapes,
    refuse_other_names,
    refuse_other_shape,
    write_tensors,
)
from mpo_lightning.models.internvl.opengvlab.config import differing_settings, native_config, read_original
from mpo_lightning.models.internvl.opengvlab.names import (
    TensorMap,
    disk_name,
    pack,
    packed_shape,
    tensor_maps,
    unpack,
)
from mpo_lightning.models.internvl.opengvlab.original_config import INTERNLM2, original_config
from mpo_lightning.models.internvl.opengvlab.tokenizer import original_tokenizer
from mpo_lightning.models.internvl.prompt_format import PROMPT_OPEN, kept_prompt
from mpo_lightning.models.internvl.saving import (
    ORIGINAL,
    UNTAUGHT,
    forget_untaught,
    is_kept,
    puts_bos,
    replace_chat_template,
    save_processor,
    saved_max_tiles,
)
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures
from mpo_lightning.models.loading import family_of_folder
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.tensor_files import dtype_of, stored_tensors


def to_transformers(
    source: Path,
    output: Path,
    progress: Progress,
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
) -> tuple[int, bool]:
    """Converts an original folder to a native one.

    Args:
        source: checkpoint folder in the original layout.
        output: output folder; must not exist.
        progress: called after each tensor with bytes written and total bytes.
        choice: what the options say of the prompt.

    Returns:
        Number of parameters, and whether the prompt is certain. If it is not, the result goes on asking for it.

    Raises:
        InputError: the source cannot be converted completely; the message names the tensor, file or setting.
    """
    original = read_original(source)
    config = native_config(original, 0, str(source))
    processor, certain = _processor(source, original, config, choice)
    if choice != PromptChoice():
        config.template, config.system_message = processor.template.name, processor.template.system_message
    config.image_token_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    tensors = stored_tensors(source)
    shapes = native_shapes(config)
    internlm2 = config.original_architecture == INTERNLM2
    names = ("output", "model.tok_embeddings") if internlm2 else ("lm_head", "model.embed_tokens")
    head, embedding = (f"language_model.{name}.weight" for name in names)
    drop_tied_head(tensors, config.tie_word_embeddings, (head, embedding), source)
    maps = _maps(config, shapes)
    refuse_other_names({one.original for one in maps}, set(tensors), source)
    for one in maps:
        refuse_other_shape(tensors[one.original], packed_shape(tuple(shapes[name] for name in one.native)))
    config.dtype = dtype_of(tensors.values())
    config.architectures = ["InternVLForConditionalGeneration"]
    heads, kv_heads = config.text_config.num_attention_heads, config.text_config.num_key_value_heads

    def native() -> Iterator[tuple[str, Tensor]]:
        for one in maps:
            yield from zip(one.native, unpack(tensors[one.original].load(), one.packing, heads, kv_heads), strict=True)

    with whole_folder(output) as folder:
        write_tensors(native(), folder, tensors, progress)
        config.save_pretrained(folder)
        generation_config(processor).save_pretrained(folder)
        save_processor(processor, folder)
        keep_original_files(source, folder / ORIGINAL)
    return sum(torch.Size(shape).numel() for shape in shapes.values()), certain


def to_opengvlab(
    source: Path,
    output: Path,
    like: Path | None,
    progress: Progress,
    choice: PromptChoice = PromptChoice(),  # noqa: B008 (frozen)
) -> tuple[int, bool]:
    """Converts a native folder to the original layout.

    Args:
        source: checkpoint folder in transformers' layout.
        output: output folder; must not exist.
        like: original folder of the same model, to copy the other files from; None takes those that the source keeps.
        progress: called after each tensor with bytes written and total bytes.
        choice: what the options say of the prompt.

    Returns:
        Number of parameters, and whether the prompt is certain.

    Raises:
        InputError: the source cannot be converted completely, or `like` belongs to another model.
    """
    family = family_of_folder(source)[0]
    config = family.read_config(source)
    tokenizer = family.tokenizer(source)
    template, certain = kept_prompt(source, config.text_config.model_type, tokenizer, choice)
    config.template = template.name
    tensors = {disk_name(tensor.name): tensor for tensor in stored_tensors(source).values()}
    drop_tied_head(tensors, config.tie_word_embeddings, NATIVE_HEAD, source)
    shapes = native_shapes(config)
    refuse_other_names(set(shapes), set(tensors), source)
    for name, tensor in tensors.items():
        refuse_other_shape(tensor, shapes[name])
    files = like or (source / ORIGINAL if (source / ORIGINAL).is_dir() else None)
    dtype = dtype_of(tensors.values())
    config.dtype = dtype
    written = _original_settings(config, files, source)
    written["max_dynamic_patch"] = saved_max_tiles(source) or written.get("max_dynamic_patch", DEFAULT_MAX_TILES)
    settled = certain and (isinstance(getattr(config, "system_message", None), str) or choice != PromptChoice())
    if settled or (certain and files is None):
        written["system_message"] = template.system_message
    elif files is None:
        written[PROMPT_OPEN] = True
    config.original_architecture = written["llm_config"]["architectures"][0]
    back = native_config(written, config.image_token_id, str(source))
    for name in differing_settings(config, back):
        raise InputError(
            f"{source}: its {name} is {_setting(config, name)}, which the original layout cannot express "
            f"({_setting(back, name)} there)"
        )
    maps = _maps(config, shapes)

    def original() -> Iterator[tuple[str, Tensor]]:
        for one in maps:
            parts = tuple(tensors[name].load() for name in one.native)
            yield one.original, pack(parts, one.packing, config.text_config.num_key_value_heads)

    with whole_folder(output) as folder:
        write_tensors(original(), folder, tensors, progress)
        keep_original_files(files or source, folder)
        if files is None:
            forget_untaught(folder)
        if settled:
            replace_chat_template(folder, template, puts_bos(tokenizer))
        (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return sum(torch.Size(shape).numel() for shape in shapes.values()), certain


def _maps(config: Any, shapes: dict[str, tuple[int, ...]]) -> list[TensorMap]:
    layers = max(config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers)
    return tensor_maps(config.original_architecture, layers, set(shapes))


def _processor(source: Path, original: dict[str, Any], config: Any, choice: PromptChoice) -> tuple[Processor, bool]:
    tokenizer = original_tokenizer(source)
    template, certain = kept_prompt(source, config.text_config.model_type, tokenizer, choice)
    missing = [token for token in ("<img>", "</img>", IMAGE_TOKEN, template.end) if token not in tokenizer.get_vocab()]
    if missing:
        raise InputError(
            f"{source}: the tokenizer has no {missing[0]}, which the template {template.name} needs; are its files "
            "complete?"
        )
    probe = "What is 12 + 7?"
    if str(tokenizer.decode(tokenizer(probe, add_special_tokens=False).input_ids)).strip() != probe:
        raise InputError(
            f"{source}: the tokenizer does not reproduce {probe!r}, so its vocabulary is incomplete; copy its files "
            "again"
        )
    if len(set(tokenizer.get_vocab()) - set(UNTAUGHT)) > config.text_config.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens and the model {config.text_config.vocab_size:,}; "
            "do they belong to the same model?"
        )
    tiles = original.get("max_dynamic_patch")
    processor = Processor(
        tokenizer,
        template,
        InternVLPictures(config.vision_config.image_size[0], config.image_seq_length),
        max_tiles=tiles if isinstance(tiles, int) and tiles > 0 else DEFAULT_MAX_TILES,
    )
    return processor, certain


def _original_settings(config: Any, files: Path | None, source: Path) -> dict[str, Any]:
    """Returns the config.json to write.

    It is the one of the original files if there are any and they belong to this model, else one made from the native
    config.
    """
    if files is None:
        return original_config(config)
    original = read_original(files)
    theirs = native_config(original, config.image_token_id, str(files))
    for name in differing_settings(config, theirs):
        ours, other = (_setting(one, name) for one in (config, theirs))
        raise InputError(
            f"{files}: its {name} is {other}, but {source} has {ours}; give the original of the same model"
        )
    dtype = str(config.dtype).removeprefix("torch.")
    original["torch_dtype"] = original["llm_config"]["torch_dtype"] = original["vision_config"]["torch_dtype"] = dtype
    return original


def _setting(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def keep_original_files(source: Path, target: Path) -> None:
    """Copies a folder's files other than weights; none of them is run."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and is_kept(path.name) and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)
