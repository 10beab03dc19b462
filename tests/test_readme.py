"""The README's commands run as they stand, in order; what it names exists."""

import re
import shlex
from pathlib import Path

import pytest

from mpo_lightning.commands.verbs import VERBS
from support.commands import mpo


def commands_of(text: str, marker: str) -> list[str]:
    """The lines of the bash block that follows a marker comment."""
    block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert block, marker
    lines = block[1].replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture
def place(root: Path, tmp_path: Path) -> Path:
    """An empty folder that sees the repository's configs and sample, as the root of a clone does."""
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(root / name)
    return tmp_path


@pytest.mark.slow
def test_the_steps_run_in_order(root: Path, place: Path) -> None:
    text = (root / "README.md").read_text()
    commands = [
        command for marker in ("steps", "reference", "prefs") for command in commands_of(text, f"tested: {marker}")
    ]
    assert len(commands) >= 12
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "mpo", command
        done = mpo(*words, cwd=place)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (place / "runs/mpo/version_0/export/model.safetensors").exists() and (place / "runs/pairs.html").exists()


def test_every_verb_and_every_linked_file_is_there(root: Path) -> None:
    text = (root / "README.md").read_text()
    for verb in VERBS:
        assert f"`mpo {verb}`" in text, verb
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / link).exists(), link
    for path in re.findall(r"configs/[\w/]+\.yaml", text):
        assert (root / path).exists(), path


def test_make_quickstart_is_the_command_that_the_wheel_is_tested_with(root: Path) -> None:
    recipe = re.search(r"^quickstart: setup\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.MULTILINE)
    assert recipe and recipe[1].split("\n")[:-1] == ["\trm -rf runs/quickstart", "\t$(BIN)/mpo quickstart"]


def test_the_makefile_has_what_the_readme_calls(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", (root / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
