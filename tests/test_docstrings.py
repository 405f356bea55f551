"""Every public name has a docstring, and the examples in docstrings run."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import hf_bml

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(hf_bml.__path__, "hf_bml.") if not module.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) >= 12


@pytest.mark.parametrize("name", ["hf_bml", *MODULES])
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for attribute, value in vars(module).items():
        is_ours = getattr(value, "__module__", "").startswith("hf_bml")
        if attribute.startswith("_") or not is_ours or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), f"{name}.{attribute} has no docstring"


def test_all_names_exist():
    for name in hf_bml.__all__:
        assert hasattr(hf_bml, name)
