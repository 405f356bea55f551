"""Every public name has a docstring, and the examples in docstrings run."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re

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


PACKAGES = [name for name in ["hf_bml", *MODULES] if hasattr(importlib.import_module(name), "__all__")]
PUBLIC = sorted({f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__})


def test_every_package_says_what_is_public():
    leaves = ("data", "metrics", "models", "modulation", "processing")
    assert {"hf_bml", *(f"hf_bml.{leaf}" for leaf in leaves)} <= set(PACKAGES)
    for package in PACKAGES:
        names = importlib.import_module(package).__all__
        assert len(names) == len(set(names)), f"{package}.__all__ has repeated names"


def own_docstring(value: object) -> str:
    """What was written for a name: no inherited docstring, and not the signature that a dataclass makes up."""
    text = (vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__) or ""
    return "" if inspect.isclass(value) and text.startswith(f"{value.__name__}(") else text


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_docstrings_of_their_own(name):
    package, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(package), attribute), f"{name} does not exist"
    value = getattr(importlib.import_module(package), attribute)
    if isinstance(value, dict):  # a registry
        undocumented = [key for key, entry in value.items() if not own_docstring(entry)]
        assert value and not undocumented, f"{name}: no docstring for {undocumented}"
        return
    assert own_docstring(value), f"{name} has no docstring"
    assert not set(undocumented_members(value)), f"{name}: no docstring for {undocumented_members(value)}"


def undocumented_members(value: object) -> list[str]:
    """Public methods and properties that a class defines without a word, on itself or on what it overrides."""
    members = vars(value) if inspect.isclass(value) else {}
    return [
        name
        for name, member in members.items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod))
        and not inspect.getdoc(getattr(value, name))
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_arguments_are_documented(name):
    """Of functions, and of what builds a class: where a docstring lists arguments, it lists all of them."""
    package, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(package), attribute)
    if isinstance(value, dict) or "Args:" not in (text := own_docstring(value)):
        return
    parameters = inspect.signature(value).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name[0] != "_"]
    if dataclasses.is_dataclass(value):  # what is inherited is described there
        named = [argument for argument in named if argument in inspect.get_annotations(value)]
    referred = [getattr(inspect.getmodule(value), other, None) for other in re.findall(r"see `(\w+)`", text)]
    described = " ".join([text, *(inspect.getdoc(other) or "" for other in referred)])
    missing = [argument for argument in named if not re.search(rf"\b{re.escape(argument)}\b", described)]
    assert not missing, f"{name}: arguments without a word: {missing}"
