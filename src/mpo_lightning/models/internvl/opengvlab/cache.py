"""An original folder given where a native one is needed: converted once, then taken from a cache.

The copy's name holds a fingerprint of its source (the small files' bytes; of each weight file its header, size and
time), so a source that changes is converted anew; a copy that lost files is, too. It lies in ~/.cache/mpo-lightning, or
where MPO_LIGHTNING_CACHE says. Processes that ask at once wait for one.
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
from mpo_lightning.models.internvl.opengvlab.config import is_kept

VERSION = 1
"""Of the conversion; a change of what it writes raises it."""


def native_folder(folder: str | Path) -> Path:
    """The folder itself, or the converted copy of an original one.

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
    """Whether a folder's config.json says that it is in the original layout."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "internvl_chat"


def fingerprint(folder: Path) -> str:
    """Sixteen hexadecimal digits that change when the folder's content does."""
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
    """Whether a copy has the files that its manifest, written last and beside it, says."""
    manifest = target.with_name(f"{target.name}.json")
    try:
        return bool(target.is_dir() and json.loads(manifest.read_text(encoding="utf-8")) == _files(target))
    except (OSError, ValueError):
        return False
