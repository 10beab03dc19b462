"""Reads a checkpoint folder's tensors one at a time and writes them in shards.

Only safetensors files are read. Pickle files (`.bin`, `.pt`) run code when they are opened, so they are refused.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpo_lightning.errors import InputError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        name: name of the tensor in the file.
        path: path of the file.
        shape: shape of the tensor.
        dtype: dtype of the tensor.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size of the tensor in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def load(self) -> Tensor:
        """Returns the tensor, memory-mapped: pages are read when they are used and freed with it."""
        with safe_open(self.path, "pt") as file:
            tensor: Tensor = file.get_tensor(self.name)
        return tensor


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Returns all tensors in a folder's weight files by name.

    Raises:
        InputError: there are no weights, weights are pickled, a shard of the index is missing, a file is cut short or
            damaged, a tensor is in two files, or a tensor is not floating point.
    """
    places = _index(folder)
    found: dict[str, StoredTensor] = {}
    for path in _weight_files(folder, places):
        for tensor in _tensors_of(path):
            if tensor.name in found:
                raise InputError(
                    f"{folder}: the tensor {tensor.name} is in two files, {found[tensor.name].path.name} and "
                    f"{path.name}; remove one"
                )
            found[tensor.name] = tensor
    lost = sorted(places.keys() - found.keys())
    if lost:
        raise InputError(
            f"{folder}: the index places {lost[0]} in {places[lost[0]]}, which does not have it; copy that file again"
        )
    return found


def _weight_files(folder: Path, places: dict[str, str]) -> list[Path]:
    """Returns the files that transformers would load: the index's, else model.safetensors, else all files."""
    if (folder / "model.safetensors").is_file() and places and set(places.values()) != {"model.safetensors"}:
        raise InputError(
            f"{folder}: there are both model.safetensors and an index that names other files; remove one of the two"
        )
    missing = sorted(name for name in set(places.values()) if not (folder / name).is_file())
    if missing:
        raise InputError(
            f"{folder}: the index names {missing[0]}, which is missing (missing files: {len(missing)}); copy it"
        )
    if places:
        return [folder / name for name in sorted(set(places.values()))]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    paths = sorted(folder.glob("*.safetensors"))
    pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled and not paths:
        raise InputError(
            f"{pickled[0]}: pickled weights run code when they are opened and are not read; save them as safetensors "
            "first"
        )
    if not paths:
        raise InputError(f"{folder}: the checkpoint folder has no weights (*.safetensors); copy them there")
    return paths


def _tensors_of(path: Path) -> Iterable[StoredTensor]:
    try:
        with safe_open(path, "pt") as file:
            for name in list(file.keys()):
                part = file.get_slice(name)
                kind = part.get_dtype()
                if kind not in DTYPES:
                    raise InputError(f"{path}: the tensor {name} has dtype {kind}; weights must be {', '.join(DTYPES)}")
                yield StoredTensor(name, path, tuple(part.get_shape()), DTYPES[kind])
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as safetensors, it is cut short or damaged ({error}); copy it again"
        ) from None


def _index(folder: Path) -> dict[str, str]:
    """Returns the file of each tensor; empty without an index."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        # Only files in the folder itself are read, whatever the index says.
        return {str(tensor): Path(name).name for tensor, name in places.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: the index cannot be read ({type(error).__name__}: {error}); copy it again") from None


def dtype_of(tensors: Iterable[StoredTensor]) -> torch.dtype:
    """Returns the dtype of most bytes; OpenGVLab's code may leave the projector in another than the rest."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.bytes
    return counts.most_common(1)[0][0]


class ShardWriter:
    """Writes tensors into shards of limited size as they arrive, and the index at the end.

    Args:
        folder: output folder.
        total: total bytes of all tensors to come.
        limit: maximum bytes of a shard, unless one tensor is larger.
    """

    def __init__(self, folder: Path, total: int, limit: int) -> None:
        self.folder, self.limit, self.single = folder, limit, total <= limit
        self.pending: dict[str, Tensor] = {}
        self.pending_bytes = self.written_bytes = 0
        self.files: list[list[str]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Adds a tensor; a full shard is written first."""
        if self.pending and self.pending_bytes + tensor.nbytes > self.limit:
            self._flush()
        self.pending[name] = tensor.contiguous()
        self.pending_bytes += tensor.nbytes

    def _flush(self) -> None:
        number = len(self.files) + 1
        path = self.folder / f"part-{number:05}.safetensors"
        save_file(self.pending, path, metadata={"format": "pt"})
        self.files.append(list(self.pending))
        self.written_bytes += self.pending_bytes
        self.pending, self.pending_bytes = {}, 0

    def finish(self) -> None:
        """Writes the last shard, renames the files as transformers does, and writes the index."""
        if self.pending:
            self._flush()
        count = len(self.files)
        places: dict[str, str] = {}
        for number, names in enumerate(self.files, 1):
            final = "model.safetensors" if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
            (self.folder / f"part-{number:05}.safetensors").rename(self.folder / final)
            places |= dict.fromkeys(names, final)
        if count > 1:
            index = {"metadata": {"total_size": self.written_bytes}, "weight_map": dict(sorted(places.items()))}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
