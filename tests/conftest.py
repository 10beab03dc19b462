"""Folders that many tests read: the golden numbers, the sample set as shards, and a tiny model."""

import atexit
import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Idle threads sleep instead of spinning; on a machine that is busy with something else, spinning makes a test take
# minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The imports of all test modules are left out of garbage collections, as `mpo` does with its own.
    gc.disable()

# Original checkpoints that a verb converts by itself.
CACHE = tempfile.mkdtemp(prefix="mpo-lightning-tests-")
os.environ["MPO_LIGHTNING_CACHE"] = CACHE
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

ROOT = Path(__file__).parent.parent


def pytest_collection_finish() -> None:
    """The collector is on again, for what tests make."""
    gc.freeze()
    gc.enable()


LONGEST = ("test_readme.py", "test_notebooks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that all processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The reference's photographs and pixels, which may not be part of the repository."""
    folder = ROOT.parent / "shared" / "golden" / "preprocess"
    if not folder.is_dir():
        pytest.skip("the golden photographs (../shared/golden/preprocess) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def sample_meta() -> Path:
    return ROOT / "examples" / "mmpr_sample" / "meta.json"


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Makes a folder that is only read: whoever of several testing processes needs it first makes it for all."""
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = common / name
        with FileLock(f"{folder}.lock", timeout=400):
            if not folder.exists():
                begun = folder.with_name(f"{name}-{os.getpid()}")
                make(begun)
                begun.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, sample_meta: Path) -> Path:
    """The sample set as shards, seven tars, one pair in eight held out."""
    from mpo_lightning.commands.data import shard

    output = tmp_path_factory.mktemp("sample") / "shards"
    shard(str(sample_meta), str(output), validation=0.125, shard_megabytes=0.3, workers=2)
    return output


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny InternVL2 checkpoint folder."""
    from mpo_lightning.models.internvl.tiny import write_tiny_model

    output = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model(output)
    return output


@pytest.fixture(scope="session")
def taught_folder(made_once: MadeOnce, root: Path) -> Path:
    """A tiny checkpoint that has learned some sample answers: right now and then."""
    from support.taught import write_taught_model

    return made_once("taught", lambda folder: write_taught_model(root, folder))


@pytest.fixture(scope="session")
def undisturbed_pair(made_once: MadeOnce, root: Path, shards: Path, tiny_folder: Path) -> Path:
    """A run of two processes that hold half of each weight, for others to be compared with."""
    from support.commands import ranks
    from support.long_runs import fit_words

    def make(folder: Path) -> None:
        done = ranks(2, "mpo", *fit_words(folder, root, shards, tiny_folder, "fsdp2_cpu"))
        assert done.returncode == 0, done.stderr

    return made_once("undisturbed", make)


@pytest.fixture
def two_networks() -> Iterator[list[str] | None]:
    """Two network namespaces, joined by a cable with the addresses 10.77.0.1 and 10.77.0.2 on `veth0`; None where a
    machine forbids it.
    """
    names = [f"mpo-test-{os.getpid()}-{number}" for number in (1, 2)]

    def ip(*words: str) -> int:
        return subprocess.run(["ip", *words], capture_output=True).returncode

    if shutil.which("ip") is None or ip("netns", "add", names[0]) != 0:
        yield None
        return
    try:
        ip("netns", "add", names[1])
        pair = ["link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1]]
        if ip(*pair) != 0:
            yield None
            return
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "veth0")
            ip("-n", name, "link", "set", "veth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)
