"""What users install: the source archive, the wheel made from it, and the main job in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from support.processes import run_apart

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "configs", "examples")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    done = run_apart(*map(str, command), cwd=cwd, env={"PYTHONPATH": ""})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The source archive, built from the files that git knows, so that nothing built earlier gets in."""
    clone = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z", *SOURCES], cwd=root, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, clone / name, follow_symlinks=False)
    run(sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=clone)
    return next((clone / "dist").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """The `bin` of a fresh environment with the wheel, and with the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", source, "--no-deps", "--no-build-isolation", "-w", folder, cwd=folder)
    venv.create(folder / "venv", with_pip=False)
    packages = next((folder / "venv/lib").glob("python*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "venv/bin/python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", next(folder.glob("*.whl")), cwd=folder)
    return folder / "venv/bin"


def test_the_wheel_has_what_the_repository_has(installed: Path, root: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", "import mpo_lightning; print(mpo_lightning.__file__)", cwd=tmp_path)
    package = Path(place.strip()).parent
    assert installed.parent in package.parents
    for packed, source in (("configs", "configs"), ("samples/mmpr_sample", "examples/mmpr_sample")):
        files = {path.relative_to(root / source) for path in (root / source).rglob("*") if path.is_file()}
        assert files and {path.relative_to(package / packed) for path in (package / packed).rglob("*.*")} >= files
        assert not (package / packed).is_symlink()


def test_quickstart_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run(installed / "mpo", "quickstart", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    run_folder = tmp_path / "runs/quickstart/version_0"
    assert (run_folder / "export/model.safetensors").exists() and (run_folder / "curves.png").exists()
    assert "recipe/mpo" in run(installed / "mpo", "configs", cwd=tmp_path)
    again = subprocess.run(
        [installed / "mpo", "quickstart"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert again.returncode == 2 and "runs/quickstart: is not empty" in again.stderr
