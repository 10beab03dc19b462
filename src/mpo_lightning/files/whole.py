"""Writes files and folders that are complete under their name, or absent.

Everything is written under a temporary name, synced to disk, and then renamed. A kill at any moment leaves the earlier
file or the new one, and perhaps a `.NAME.partial` that the next writer replaces.
"""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mpo_lightning.errors import InputError


def partial_of(path: Path, several_writers: bool = False) -> Path:
    """The temporary path of a file or folder before it gets its name; each of several writers has its own."""
    own = f"{socket.gethostname()}-{os.getpid()}." if several_writers else ""
    return path.with_name(f".{path.name}.{own}partial")


@contextmanager
def whole_file(path: Path, mode: str = "w", errors: str = "strict", several_writers: bool = False) -> Iterator[IO[Any]]:
    """Opens a file that gets its name when the context ends without an error.

    Args:
        path: path of the file; its folder is created.
        mode: "w" for UTF-8 text, "wb" for bytes.
        errors: how text that is not UTF-8 is written, as in `open`.
        several_writers: whether other processes may write the same file at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path, several_writers)
    if several_writers:
        _remove_left_overs(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": errors}
    try:
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str, errors: str = "strict") -> Path:
    """Writes a complete text file and returns its path."""
    with whole_file(path, errors=errors) as file:
        file.write(text)
    return path


def write_json(path: Path, value: Any, several_writers: bool = False) -> Path:
    """Writes a complete JSON file and returns its path."""
    with whole_file(path, errors="backslashreplace", several_writers=several_writers) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    return path


def sync_folder(folder: Path) -> None:
    """Syncs the names in a folder to disk."""
    _sync(folder)


@contextmanager
def whole_folder(output: Path, replace: bool = False) -> Iterator[Path]:
    """Creates a folder that gets its name when everything is written and synced; a failed or killed run leaves nothing
    there.

    Args:
        output: path of the folder.
        replace: whether to replace an existing folder at the end instead of refusing it.

    Raises:
        InputError: `output` exists and is not empty, or cannot be written.
    """
    check_output(output, replace)
    output = output.resolve()
    # Two that write one output do not touch each other's files; the second to end is refused.
    partial = partial_of(output, several_writers=True)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_overs(output)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        if replace and output.exists():
            old = partial.with_suffix(".old")
            output.rename(old)
            partial.rename(output)
            shutil.rmtree(old)
        else:
            partial.rename(output)  # replaces an empty folder, and no other
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_output(output: Path, replace: bool = False) -> None:
    """Raises InputError where `whole_folder` would; for commands that work long before they write."""
    if output.is_symlink() and not output.exists():
        raise InputError(f"{output}: is a link to a folder that is not there; mount its disk, or choose another")
    output = output.resolve()
    if output.is_mount() or output == Path.cwd():
        raise InputError(f"{output}: this folder cannot be replaced by a new one; choose one inside it")
    if not replace and output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; choose a new folder")
    if not replace and output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: the folder is not empty; choose a new one")


def _remove_left_overs(output: Path) -> None:
    """Removes what killed processes of this machine left of the same output."""
    for path in output.parent.glob(f".{output.name}.{socket.gethostname()}-*.partial"):
        number = path.name.removesuffix(".partial").rpartition("-")[2]
        if number.isdigit() and int(number) != os.getpid() and not Path(f"/proc/{number}").exists():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
