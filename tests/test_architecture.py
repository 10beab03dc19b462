"""The house keeps its floors: a room imports only from the floors below it, and every room is known."""

import ast
from pathlib import Path

import pytest

PACKAGE = "mpo_lightning"
SOURCE = Path(__file__).parent.parent / "src" / PACKAGE
FLOORS = {
    "errors": 0,
    "files": 0,
    "data": 1,
    "answers": 1,
    "objectives": 1,
    "models": 2,
    "runs": 2,
    "training": 3,
    "inference": 3,
    "prefs": 4,
    "evals": 4,
    "commands": 5,
    "cli": 6,
    "__main__": 7,
    "__init__": 0,
}
BESIDE = {("files", "errors")}
"""A room of the same floor that may be used."""
APART = {
    ("answers", "data"),
    ("objectives", "data"),
    ("inference", "answers"),
    ("prefs", "training"),
    ("evals", "training"),
    ("prefs", "objectives"),
    ("evals", "objectives"),
}
"""Lower rooms that a room has no business with."""
WITH_LIGHTNING = ("runs", "training", "inference", "evals/callback.py", "commands/fit.py")
FORBIDDEN_NAMES = {"utils", "common", "helpers", "lightning", "misc", "core"}
MOST_FILES, MOST_LINES = 15, 300


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(tree: ast.Module) -> list[tuple[str, bool]]:
    """Imported modules by their whole names, and whether the import is at the top of the file."""
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from mpo_lightning import x` imports the room x.
            whole = node.module == PACKAGE
            names = [f"{PACKAGE}.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        found += [(name, node in tree.body) for name in names]
    return found


def rooms_used(tree: ast.Module) -> set[str]:
    """Rooms of this package that a file imports; the package's own attributes belong to its face."""
    parts = [name.split(".") for name, _ in imports_of(tree)]
    return {names[1] if len(names) > 1 and names[1] in FLOORS else "__init__" for names in parts if names[0] == PACKAGE}


def may_use(room: str, used: str) -> bool:
    if used == room or (room, used) in BESIDE or used == "__init__":
        return True
    return FLOORS[used] < FLOORS[room] and (room, used) not in APART


SOURCES = sorted(SOURCE.rglob("*.py"))


def test_every_room_is_known_and_every_known_room_is_there() -> None:
    assert {room_of(path) for path in SOURCES} == set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_from_floors_below_its_own(path: Path) -> None:
    room = room_of(path)
    wrong = {used for used in rooms_used(ast.parse(path.read_text())) if not may_use(room, used)}
    assert not wrong, f"{path.relative_to(SOURCE)} imports {', '.join(sorted(wrong))}"


def test_an_import_of_a_room_by_the_packages_name_is_seen() -> None:
    assert rooms_used(ast.parse("from mpo_lightning import training, __version__")) == {"training", "__init__"}
    assert rooms_used(ast.parse("def f():\n    import mpo_lightning.evals.metrics")) == {"evals"}
    assert not may_use("prefs", "training") and not may_use("data", "models") and may_use("prefs", "answers")


def test_lightning_is_imported_where_it_is_used_alone() -> None:
    for path in SOURCES:
        names = {name.split(".")[0] for name, _ in imports_of(ast.parse(path.read_text()))}
        if names & {"lightning", "pytorch_lightning"}:
            assert str(path.relative_to(SOURCE)).startswith(WITH_LIGHTNING), path


def test_the_ground_floors_know_nothing_of_lightning() -> None:
    assert not {"errors", "files", "data", "answers", "objectives"} & {name.split("/")[0] for name in WITH_LIGHTNING}


def test_the_command_imports_nothing_heavy_at_its_top() -> None:
    light = [path for path in SOURCES if room_of(path) in ("cli", "__main__", "__init__", "errors")]
    light += [
        path for path in (SOURCE / "commands").glob("*.py") if path.name not in ("fit.py", "fit_config.py", "parser.py")
    ]
    for path in light:
        top = {module.split(".")[0] for module, at_top in imports_of(ast.parse(path.read_text())) if at_top}
        assert not top & {"torch", "lightning", "transformers", "numpy", "PIL", "webdataset"}, path


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {path.stem for path in SOURCES} & FORBIDDEN_NAMES
    assert not {path.name for path in SOURCE.rglob("*") if path.is_dir()} & FORBIDDEN_NAMES


def test_files_and_folders_are_small_enough_to_read() -> None:
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCES
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    full = {
        str(path): count
        for path in [SOURCE, *SOURCE.rglob("*")]
        if path.is_dir() and (count := len([*path.glob("*.py")]) - 1) > MOST_FILES
    }
    assert not long and not full


INTERNALS = {"runs/lightning_internals.py", "runs/torch_internals.py", "models/internals.py"}
LIBRARIES = ("lightning", "torch", "transformers", "peft")
STANDARD = {"os._exit"}
"""Private by name, documented by Python."""


def private_names_of_others(tree: ast.Module, own: set[str]) -> list[str]:
    """Private attributes and imports that no class or function of this package defines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [f"{node.module}: {name}" for name in names if name.startswith("_")]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            whole = ast.unparse(node)
            own_state = node.attr in own or whole.startswith(("self.", "cls."))
            if not own_state and whole not in STANDARD:
                found.append(whole)
    return found


def names_defined(trees: list[ast.Module]) -> set[str]:
    """Names of functions, methods and attributes of self that this package defines."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    return found


def test_private_names_of_libraries_are_in_the_modules_for_them() -> None:
    trees = {path: ast.parse(path.read_text()) for path in SOURCES}
    own = names_defined(list(trees.values()))
    wrong = {
        str(path.relative_to(SOURCE)): found
        for path, tree in trees.items()
        if str(path.relative_to(SOURCE)) not in INTERNALS and (found := private_names_of_others(tree, own))
    }
    assert not wrong


def test_a_private_name_of_a_library_is_seen() -> None:
    seen = private_names_of_others(ast.parse("from torch._subclasses import x\ntrainer._signal_connector.y\n"), set())
    assert seen == ["torch._subclasses: _subclasses", "trainer._signal_connector"]
