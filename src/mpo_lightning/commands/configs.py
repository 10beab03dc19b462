"""`mpo configs`: the configs that ship with the package, and how `--config NAME` finds them."""

import shutil
from difflib import get_close_matches
from pathlib import Path

from mpo_lightning.errors import InputError

PACKAGED = Path(__file__).parent.parent / "configs"
"""The configs of the package; in a clone a link to the repository's own."""
SUFFIX = ".yaml"


def packaged_configs() -> dict[str, Path]:
    """Every config by its name, such as recipe/mpo."""
    paths = sorted(PACKAGED.rglob(f"*{SUFFIX}"))
    return {path.relative_to(PACKAGED).with_suffix("").as_posix(): path for path in paths}


def find_config(value: str) -> str:
    """The file of a `--config` option.

    A path is taken as it is. A name is looked for in the working folder and its `configs` folder, then in the package.

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
    near = get_close_matches(name.removeprefix("configs/"), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"--config {value}: there is no such file here, nor a config of that name; {hint}'mpo configs' lists them"
    )


def show() -> None:
    """Lists the configs that ship with the package, each with its first line."""
    for name, path in packaged_configs().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
        print(f"{name:<32}{first}")
    print("\nUse one as --config NAME; 'mpo configs copy FOLDER' copies them to change them.")


def copy(folder: str) -> None:
    """Copies the configs that ship with the package to a folder. `--config NAME` finds them in ./configs before the
    package's own.

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
