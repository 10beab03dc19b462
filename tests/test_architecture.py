"""The house keeps its floors: a package imports only from the floors below it."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "mpo_lightning"
ALLOWED = {
    "errors": set(),
    "cache_root": set(),
    "ranks": {"errors", "ranks"},
    "data": {"errors", "cache_root", "data"},
    "objectives": {"errors", "objectives"},
    "models": {"errors", "cache_root", "data", "objectives", "models"},
    "training": {"errors", "ranks", "data", "objectives", "models", "training"},
    "inference": {"errors", "ranks", "data", "models", "inference"},
    "answers": {"errors", "answers"},
    "evals": {"errors", "answers", "data", "models", "inference", "evals"},
    "prefs": {"errors", "ranks", "answers", "data", "models", "inference", "prefs"},
    "commands": {"errors", "ranks", "commands", "data", "models", "inference", "training", "evals", "prefs", "cli", "imports"},
    "imports": set(),
    "cli": {"errors", "imports", "ranks"},
}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "lightning"}


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Imported modules, and whether the import is at the top of the file."""
    found = []
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        found += [(name, node in tree.body) for name in names]
    return found


def test_imports_stay_within_their_floors() -> None:
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for name, _ in imports_of(path):
            if room in ALLOWED and name.startswith("mpo_lightning."):
                assert name.split(".")[1] in ALLOWED[room], f"{path} imports {name}"


def test_lightning_is_imported_by_ranks_training_inference_and_the_callback_of_evals_alone() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] not in ("ranks", "training", "inference") and path.name != "callback.py":
            assert not any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name, _ in imports_of(path)), path


def test_the_command_imports_nothing_heavy_at_its_top() -> None:
    for name in (
        "cli.py",
        "commands/__init__.py",
        "commands/run.py",
        "commands/data.py",
        "commands/eval.py",
        "commands/model.py",
        "commands/predict.py",
        "commands/prefs.py",
        "prefs/sources.py",
        "prefs/prompt_files.py",
        "__init__.py",
        "__main__.py",
        "errors.py",
    ):
        top = {module.split(".")[0] for module, at_top in imports_of(SOURCE / name) if at_top}
        assert not top & {"torch", "lightning", "transformers", "numpy", "PIL", "webdataset"}, name


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {path.stem for path in SOURCE.rglob("*.py")} & FORBIDDEN_NAMES
    assert not {path.name for path in SOURCE.rglob("*") if path.is_dir()} & FORBIDDEN_NAMES
