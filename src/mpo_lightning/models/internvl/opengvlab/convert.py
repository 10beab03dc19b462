"""Converts checkpoints between the original layout and transformers', tensor by tensor.

Conversion is strict in both directions: every source tensor is used once, and every target tensor is filled once. Names
and shapes are checked before anything is written. Numbers are moved, never computed, so a round trip restores every
bit. The output folder appears under its name only when it is complete.

A native folder keeps the original's other files (config.json, tokenizer files, Python files that are never run) in
`original/`. Converting back restores them, for tools that need the original layout.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, InternVLForConditionalGeneration

from mpo_lightning.data.tiling import DEFAULT_MAX_TILES
from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import whole_folder
from mpo_lightning.models.export import generation_config
from mpo_lightning.models.family import Processor, get_template
from mpo_lightning.models.internvl.opengvlab.config import differing_settings, is_kept, native_config, read_original
from mpo_lightning.models.internvl.opengvlab.names import TensorMap, disk_name, pack, packed_shape, tensor_maps, unpack
from mpo_lightning.models.internvl.opengvlab.original_config import original_config
from mpo_lightning.models.internvl.opengvlab.tokenizer import original_tokenizer
from mpo_lightning.models.internvl.saving import ORIGINAL, save_processor, saved_max_tiles
from mpo_lightning.models.internvl.tiling import IMAGE_TOKEN, InternVLPictures
from mpo_lightning.models.tensor_files import ShardWriter, StoredTensor, dtype_of, stored_tensors

SHARD_BYTES = 2 * 10**9

Progress = Callable[[int, int], None]
"""Called with the bytes written since the last call and the total bytes."""


def to_transformers(source: Path, output: Path, progress: Progress) -> int:
    """Converts an original folder to a native one.

    Args:
        source: checkpoint folder in the original layout.
        output: output folder; must not exist.
        progress: called after each tensor with bytes written and total bytes.

    Returns:
        Number of parameters.

    Raises:
        InputError: the source cannot be converted completely; the message names the tensor, file or setting.
    """
    original = read_original(source)
    config = native_config(original, 0, str(source))
    processor = _processor(source, original, config)
    config.image_token_id = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    tensors = stored_tensors(source)
    shapes = native_shapes(config)
    _drop_tied_head(tensors, config, source)
    maps = _maps(config, shapes)
    _same_names({one.original for one in maps}, set(tensors), source)
    for one in maps:
        _same_shape(tensors[one.original], packed_shape(tuple(shapes[name] for name in one.native)))
    config.dtype = dtype_of(tensors.values())
    config.architectures = ["InternVLForConditionalGeneration"]
    heads, kv_heads = config.text_config.num_attention_heads, config.text_config.num_key_value_heads

    def native() -> Iterator[tuple[str, Tensor]]:
        for one in maps:
            yield from zip(one.native, unpack(tensors[one.original].load(), one.packing, heads, kv_heads), strict=True)

    with whole_folder(output) as folder:
        _write(native(), folder, tensors, progress)
        config.save_pretrained(folder)
        generation_config(processor).save_pretrained(folder)
        save_processor(processor, folder)
        keep_original_files(source, folder / ORIGINAL)
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def to_opengvlab(source: Path, output: Path, like: Path | None, progress: Progress) -> int:
    """Converts a native folder to the original layout.

    Args:
        source: checkpoint folder in transformers' layout.
        output: output folder; must not exist.
        like: original folder of the same model, to copy the other files from; None takes those that the source keeps.
        progress: called after each tensor with bytes written and total bytes.

    Returns:
        Number of parameters.

    Raises:
        InputError: the source cannot be converted completely, or `like` belongs to another model.
    """
    config: Any = AutoConfig.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    tensors = {disk_name(tensor.name): tensor for tensor in stored_tensors(source).values()}
    shapes = native_shapes(config)
    _same_names(set(shapes), set(tensors), source)
    for name, tensor in tensors.items():
        _same_shape(tensor, shapes[name])
    files = like or (source / ORIGINAL if (source / ORIGINAL).is_dir() else None)
    dtype = dtype_of(tensors.values())
    config.dtype = dtype
    written = _original_settings(config, files, source)
    written["max_dynamic_patch"] = saved_max_tiles(source) or written.get("max_dynamic_patch", DEFAULT_MAX_TILES)
    config.original_architecture = written["llm_config"]["architectures"][0]
    maps = _maps(config, shapes)

    def original() -> Iterator[tuple[str, Tensor]]:
        for one in maps:
            parts = tuple(tensors[name].load() for name in one.native)
            yield one.original, pack(parts, one.packing, config.text_config.num_key_value_heads)

    with whole_folder(output) as folder:
        _write(original(), folder, tensors, progress)
        keep_original_files(files or source, folder)
        (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def native_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each native tensor by its name on disk, without allocating the tensors.

    Raises:
        InputError: no model can be built from this config.
    """
    try:
        with torch.device("meta"):
            model = InternVLForConditionalGeneration(config)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"no model can be made from this config.json ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None
    shapes = {disk_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("language_model.lm_head.weight")
    return shapes


def _maps(config: Any, shapes: dict[str, tuple[int, ...]]) -> list[TensorMap]:
    layers = max(config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers)
    return tensor_maps(config.original_architecture, layers, set(shapes))


def _processor(source: Path, original: dict[str, Any], config: Any) -> Processor:
    name = original.get("template")
    if not isinstance(name, str):
        raise InputError(
            f"{source / 'config.json'}: template is {name!r}; it names the chat template, such as 'internlm2-chat'"
        )
    template = get_template(name)
    tokenizer = original_tokenizer(source)
    missing = [token for token in ("<img>", "</img>", IMAGE_TOKEN, template.end) if token not in tokenizer.get_vocab()]
    if missing:
        raise InputError(
            f"{source}: the tokenizer has no {missing[0]}, which the template {name} needs; are its files complete?"
        )
    probe = "What is 12 + 7?"
    if str(tokenizer.decode(tokenizer(probe, add_special_tokens=False).input_ids)).strip() != probe:
        raise InputError(
            f"{source}: the tokenizer does not reproduce {probe!r}, so its vocabulary is incomplete; copy its files "
            "again"
        )
    if len(tokenizer) > config.text_config.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {len(tokenizer):,} tokens and the model {config.text_config.vocab_size:,}; "
            "do they belong to the same model?"
        )
    tiles = original.get("max_dynamic_patch")
    return Processor(
        tokenizer,
        template,
        InternVLPictures(config.vision_config.image_size[0], config.image_seq_length),
        max_tiles=tiles if isinstance(tiles, int) and tiles > 0 else DEFAULT_MAX_TILES,
    )


def _drop_tied_head(tensors: dict[str, StoredTensor], config: Any, source: Path) -> None:
    """Drops a tied head that is stored anyway, after checking that it equals the embedding."""
    if not config.tie_word_embeddings:
        return
    internlm2 = config.original_architecture == "InternLM2ForCausalLM"
    names = ("output", "model.tok_embeddings") if internlm2 else ("lm_head", "model.embed_tokens")
    head, embedding = (tensors.get(f"language_model.{name}.weight") for name in names)
    if head is not None and embedding is not None:
        if head.shape != embedding.shape or not torch.equal(head.load(), embedding.load()):
            raise InputError(
                f"{source}: config.json says that head and embedding are tied, but {head.name} is stored with other "
                "values; set tie_word_embeddings to false in llm_config"
            )
        del tensors[head.name]


def _same_names(expected: set[str], found: set[str], source: Path) -> None:
    for problem, names in (("lacks", expected - found), ("has, though its config does not need it,", found - expected)):
        if names:
            raise InputError(
                f"{source}: the checkpoint {problem} the tensor "
                f"{min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}; "
                "do config.json and all weight files belong to the same model?"
            )


def _same_shape(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise InputError(
            f"{tensor.path}: the tensor {tensor.name} has shape {list(tensor.shape)}, but config.json implies "
            f"{list(shape)}; do they belong to the same model?"
        )


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


def _write(
    tensors: Iterator[tuple[str, Tensor]], folder: Path, stored: dict[str, StoredTensor], progress: Progress
) -> None:
    total = sum(tensor.bytes for tensor in stored.values())
    writer = ShardWriter(folder, total, SHARD_BYTES)
    try:
        for name, tensor in tensors:
            writer.add(name, tensor)
            progress(tensor.nbytes, total)
        writer.finish()
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder.parent}: the weights cannot be written ({error}); is the disk full?") from None
