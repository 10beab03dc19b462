"""`mpo configs`: lists and copies the package's configs. `find_config` finds them for `--config NAME`."""

import shutil
from difflib import get_close_matches
from pathlib import Path

from mpo_lightning.errors import InputError

PACKAGED = Path(__file__).parent.parent / "configs"
"""Folder of the package's configs; in a clone it links to the repository's."""
SUFFIX = ".yaml"


def packaged_configs() -> dict[str, Path]:
    """Returns every packaged config by its name, such as recipe/mpo."""
    paths = sorted(PACKAGED.rglob(f"*{SUFFIX}"))
    return {path.relative_to(PACKAGED).with_suffix("").as_posix(): path for path in paths}


def find_config(value: str) -> str:
    """Finds the file of a `--config` option.

    A path or YAML is returned as it is. A name is searched in the working folder, then ./configs, then the package.

    Args:
        value: a path, a name such as recipe/mpo, or YAML itself.

    Raises:
        InputError: there is no such file; the message lists configs of similar names.
    """
    if "\n" in value or "{" in value or ": " in value or Path(value).is_file():
        return value
    name = value.removesuffix(SUFFIX)
    places = [Path(f"{name}{SUFFIX}"), Path("configs") / f"{name}{SUFFIX}"]
    for path in places:
        if path.is_file():
            return str(path)
    known = packaged_configs()
    if name in known:
        return str(known[name])
    same = [one for one in known if one.rpartition("/")[2] == name.rpartition("/")[2]]
    near = same[:3] or get_close_matches(name.removeprefix("configs/"), known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"--config {value}: there is no such file here, nor a config of that name; {hint}'mpo configs' lists them"
    )


def show() -> None:
    """Lists the configs that ship with the package, each with its first line."""
    for name, path in packaged_configs().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        print(f"{name:<32}{first}")
    print("\nUse one as --config NAME. To change them, copy them with 'mpo configs copy FOLDER'.")


def copy(folder: str) -> None:
    """Copies the package's configs to a folder. `--config NAME` looks in ./configs before the package.

    Args:
        folder: a new folder, such as configs.

    Raises:
        InputError: the folder exists and is not empty.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{folder}: is not empty; choose a new folder")
    shutil.copytree(PACKAGED, target, dirs_exist_ok=True)
    print(f"{folder}: {len(packaged_configs())} configs")
