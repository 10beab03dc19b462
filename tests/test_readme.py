"""The README's commands run as they stand, in order; what it names exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mpo_lightning.commands.verbs import VERBS


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
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
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


def test_the_makefile_has_what_the_readme_calls(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", (root / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
