"""Every private name of another library is declared in seams.py, and is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path

import pytest
from transformers import Trainer

import hf_bml
from hf_bml.ground.seams import RELEASES, SEAMS, Seam, check_seams, difference

ROOT = Path(hf_bml.__file__).parent
DECLARED = {seam.name for owners in SEAMS.values() for seams in owners.values() for seam in seams}
ELSEWHERE = {  # of Python, NumPy and PyTorch
    *("_actions", "_get_value", "_fields", "_replace", "_core", "_frombuffer"),
    *("_BatchNorm", "_NormBase", "_buffers", "_version", "_foreach_mul_", "_functorch"),
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The private names that a tree defines, and those that it uses."""
    defined, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            used |= {
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return set(filter(is_private, defined)), set(filter(is_private, used))


@cache
def names_of(kind: type) -> set[str]:
    """The private names in the source of a class."""
    return set().union(*private_names(ast.parse(textwrap.dedent(inspect.getsource(kind)))))


def test_names_that_the_package_does_not_define_are_declared():
    found = [private_names(ast.parse(path.read_text(encoding="utf-8"))) for path in ROOT.rglob("*.py")]
    defined, used = (set().union(*each) for each in zip(*found, strict=True))
    assert used - defined - DECLARED - ELSEWHERE == set()


def test_names_that_a_class_shares_with_its_bases_are_declared():
    shared = set()
    for path in (path for path in ROOT.rglob("*.py") if path.stem != "__init__"):
        module = importlib.import_module(".".join(["hf_bml", *path.relative_to(ROOT).with_suffix("").parts]))
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                libraries = [base for base in kind.__mro__ if base.__module__.split(".")[0] in RELEASES]
                shared |= {name for base in libraries for name in names_of(kind) & names_of(base)}
    assert {"_run_epoch", "_tr_loss"} <= shared
    assert shared <= DECLARED


def test_what_is_declared_is_used():
    texts = "\n".join(p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py") if p.name != "seams.py")
    assert [name for name in sorted(DECLARED) if not re.search(rf"\b{name}\b", texts)] == []


@pytest.mark.parametrize("room", SEAMS)
def test_they_are_there(room):
    check_seams(room)


def test_releases_are_those_of_the_project():
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    for library, releases in RELEASES.items():
        assert f'"{library}{releases}"' in text


def test_a_missing_or_changed_name_is_one_clear_error(monkeypatch):
    monkeypatch.delattr(Trainer, "_save_rng_state")
    message = (
        r"Expected transformers.trainer.Trainer._save_rng_state\(output_dir\), found no such function in .*>=5.23,<6"
    )
    with pytest.raises(ImportError, match=message):
        check_seams("training")
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "_save_rng_state", lambda self, folder: None)
    with pytest.raises(ImportError, match=r"found \(self, folder\) in transformers 5"):
        check_seams("training")


def test_what_counts_as_changed():
    class Owner:
        def __init__(self):
            self._value = 1

        def _same(self, a, b=None): ...

        def _more(self, a, b, c=None, **options): ...

        def _demanding(self, a, b, c): ...

        def _turned(self, b, a): ...

    assert difference(Owner, Seam("_value", None, "")) is None
    assert difference(Owner, Seam("_other", None, "")) == "no such attribute"
    assert difference(Owner, Seam("_same", "a b", "")) is None
    assert difference(Owner, Seam("_more", "a b", "")) is None
    assert difference(Owner, Seam("_demanding", "a b", "")) == "(self, a, b, c)"
    assert difference(Owner, Seam("_turned", "a b", "")) == "(self, b, a)"
