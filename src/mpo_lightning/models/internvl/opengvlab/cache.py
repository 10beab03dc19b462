"""Cache of converted checkpoints: an original folder given where a native one is needed is converted once.

The copy's name contains a fingerprint of its source: the bytes of small files, and header, size and time of each weight
file. If the source changes or the copy loses files, it is converted again. The cache is ~/.cache/mpo-lightning or
MPO_LIGHTNING_CACHE. Concurrent processes wait for one conversion.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from filelock import FileLock

from mpo_lightning.errors import InputError
from mpo_lightning.files.cache_root import cache_root
from mpo_lightning.files.whole import write_json
from mpo_lightning.models.internvl.saving import is_kept

VERSION = 1
"""Version of the conversion, increased when its output changes."""


def native_folder(folder: str | Path) -> Path:
    """Returns the folder itself, or the converted copy of an original one.

    Raises:
        InputError: the source cannot be converted.
    """
    folder = Path(folder)
    if not is_original(folder):
        return folder
    target = cache_root() / "converted" / f"{folder.resolve().name}-{fingerprint(folder)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not _is_whole(target):
                from mpo_lightning.models.internvl.opengvlab.convert import to_transformers

                print(
                    f"mpo: {folder} is in the original OpenGVLab layout; converting it once, to {target}",
                    file=sys.stderr,
                )
                shutil.rmtree(target, ignore_errors=True)
                to_transformers(folder, target, lambda done, total: None)
                write_json(target.with_name(f"{target.name}.json"), _files(target))
    except OSError as error:
        raise InputError(
            f"{error.filename or target}: cannot be written ({error.strerror}); set MPO_LIGHTNING_CACHE to a folder "
            "with room, or run "
            "'mpo model convert'"
        ) from None
    return target


def is_original(folder: Path) -> bool:
    """Whether the folder's config.json is in the original layout."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "internvl_chat"


def fingerprint(folder: Path) -> str:
    """Returns sixteen hexadecimal digits that change when the folder's content changes."""
    digest = hashlib.sha256(str(VERSION).encode())
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not (is_kept(path.name) or path.suffix == ".safetensors"):
            continue
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                state = path.stat()
                digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
                header = int.from_bytes(file.read(8), "little")
                digest.update(file.read(min(header, 2**24)))
            else:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _is_whole(target: Path) -> bool:
    """Whether a copy has all the files in its manifest, which is written last, next to the copy."""
    manifest = target.with_name(f"{target.name}.json")
    try:
        return bool(target.is_dir() and json.loads(manifest.read_text(encoding="utf-8")) == _files(target))
    except (OSError, ValueError):
        return False
