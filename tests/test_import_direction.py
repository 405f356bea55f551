"""Rooms import downwards only, leaves not each other, and no file imports itself by a detour."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import hf_bml

ROOT = Path(hf_bml.__file__).parent
LEAVES = {"modulation", "models", "processing", "data", "metrics"}
# From the top; beside that, nothing imports `testing`:
FLOORS = ["commands", "testing", "report", "study", "training", "hub", "figures", "analysis", "leaves", "ground"]
TOP = {"", "cli"}  # hf_bml itself and the command line may import anything; nothing imports them


def module_of(path: Path) -> str:
    """Name relative to the package; that of `__init__.py` at its top is ""."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in ROOT.rglob("*.py")}


def imported_modules(path: Path) -> set[str]:
    """Modules of hf_bml that a file imports, anywhere in it, under TYPE_CHECKING too; "" is the package itself."""
    package = ["hf_bml", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            submodules = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name.partition(".")[2] in FILES else module for name in submodules]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.partition(".")[2] for name in names if name.split(".")[0] == "hf_bml"}
    return found


def floor_of(room: str) -> int:
    return FLOORS.index("leaves" if room in LEAVES else room)


def test_imports_lead_downwards():
    wrong = []
    for module, path in FILES.items():
        room = module.split(".")[0]
        if room in TOP:
            continue
        for target in imported_modules(path):
            other = target.split(".")[0]
            if other != room and (other in {*TOP, "testing"} or floor_of(other) <= floor_of(room)):
                wrong.append(f"{module} imports {target or 'hf_bml'}")
    assert not wrong


def test_nothing_imports_itself_by_a_detour():
    try:
        TopologicalSorter({module: imported_modules(path) - {module} for module, path in FILES.items()}).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {error.args[1]}") from error


def test_the_walk_sees_imports():
    assert "hub.hidden_paths" in imported_modules(ROOT / "training" / "pushing.py")
    assert "figures.curves" in imported_modules(ROOT / "study" / "experiment.py")  # inside a function


def test_rooms_are_known():
    assert {module_of(path) for path in ROOT.glob("*.py")} <= TOP
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms <= {*LEAVES, *FLOORS}


def test_no_file_names_that_say_nothing():
    assert not [path for path in FILES.values() if path.stem in {"utils", "util", "helpers", "misc", "common"}]
