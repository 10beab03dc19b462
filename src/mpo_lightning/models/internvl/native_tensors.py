"""The tensors of a native folder: which a config implies, whether a checkpoint has exactly them, and writing them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.opengvlab.names import disk_shapes
from mpo_lightning.models.tensor_files import ShardWriter, StoredTensor

SHARD_BYTES = 2 * 10**9

NATIVE_HEAD = ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight")
"""Names of head and embedding on disk."""

Progress = Callable[[int, int], None]
"""Called with the bytes written since the last call and the total bytes."""


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
    fused = config.text_config.model_type == "qwen3_moe"
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        shapes |= disk_shapes(name, tuple(tensor.shape), fused)
    if config.tie_word_embeddings:
        shapes.pop("language_model.lm_head.weight")
    return shapes


def refuse_other_names(expected: set[str], found: set[str], source: Path) -> None:
    """Raises InputError unless the checkpoint has exactly the expected tensors."""
    for problem, names in (("lacks", expected - found), ("has, though its config does not need it,", found - expected)):
        if names:
            raise InputError(
                f"{source}: the checkpoint {problem} the tensor "
                f"{min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}; "
                "do config.json and all weight files belong to the same model?"
            )


def refuse_other_shape(tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    """Raises InputError unless the tensor has this shape."""
    if tensor.shape != shape:
        raise InputError(
            f"{tensor.path}: the tensor {tensor.name} has shape {list(tensor.shape)}, but config.json implies "
            f"{list(shape)}; do they belong to the same model?"
        )


def write_tensors(
    tensors: Iterator[tuple[str, Tensor]], folder: Path, stored: dict[str, StoredTensor], progress: Progress
) -> None:
    """Writes a checkpoint's tensors.

    Raises:
        InputError: the disk refuses them.
    """
    total = sum(tensor.bytes for tensor in stored.values())
    writer = ShardWriter(folder, total, SHARD_BYTES)
    try:
        for name, tensor in tensors:
            writer.add(name, tensor)
            progress(tensor.nbytes, total)
        writer.finish()
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder.parent}: the weights cannot be written ({error}); is the disk full?") from None


def drop_tied_head(tensors: dict[str, StoredTensor], tied: bool, names: tuple[str, str], source: Path) -> None:
    """Drops a tied head that is stored anyway, after checking that it equals the embedding.

    Args:
        tensors: the checkpoint's tensors by name.
        tied: whether config.json says that they are tied.
        names: names of head and embedding.
        source: the folder, for messages.

    Raises:
        InputError: they are said to be tied and have other values.
    """
    head, embedding = map(tensors.get, names)
    if not tied or head is None or embedding is None:
        return
    if head.shape != embedding.shape or not torch.equal(head.load(), embedding.load()):
        raise InputError(
            f"{source}: config.json says that head and embedding are tied, but {head.name} is stored with other "
            "values; set tie_word_embeddings to false in llm_config"
        )
    del tensors[names[0]]
